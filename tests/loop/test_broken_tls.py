"""TLS that goes wrong at every stage: resets, silence, garbage, an end without a farewell.

Compared with the standard loop: the same exceptions, calls and reports. What is sent and when is in
the hands of the tests, whose end of the connection is a plain socket with an `ssl.SSLObject`.
"""

import asyncio
import socket
import ssl
import struct

import pytest

from compared import Settling, compare
from tls_ends import client_context, server_context


class Peer:
    """A TLS client by hand, over a plain TCP socket that does not block."""

    def __init__(self, address) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    def step(self, call, *arguments):
        """Make one call on the TLS object; send what comes of it; whether it is done."""
        try:
            call(*arguments)
        except ssl.SSLWantReadError:
            done = False
        else:
            done = True
        self.sock.sendall(self.outgoing.read())
        return done

    def receive(self) -> None:
        """Take in what has arrived."""
        try:
            while part := self.sock.recv(1 << 16):
                self.incoming.write(part)
        except BlockingIOError:
            return

    async def shake_hands(self, settling) -> None:
        """Go through the whole handshake."""
        while not self.step(self.tls.do_handshake):
            await settling.wait()
            self.receive()

    def reset(self) -> None:
        """Break the connection off."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Recorder(asyncio.Protocol):
    """Writes down its calls."""

    def __init__(self, seen):
        self.seen = seen
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.seen.append("made")

    def data_received(self, data):
        self.seen.append(data)

    def eof_received(self):
        self.seen.append("eof")

    def connection_lost(self, exc):
        self.seen.append(("lost", type(exc).__name__))
        self.lost.set_result(None)


async def nothing_at_all(peer, settling, protocols):
    peer.sock.close()


async def reset_at_once(peer, settling, protocols):
    peer.reset()


async def half_a_greeting(peer, settling, protocols):
    peer.sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    await settling.wait()
    peer.sock.close()


async def reset_in_the_handshake(peer, settling, protocols):
    peer.step(peer.tls.do_handshake)
    await settling.wait()
    peer.reset()


async def garbage_for_a_greeting(peer, settling, protocols):
    peer.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")


async def greeting_of_unheard_length(peer, settling, protocols):
    peer.sock.sendall(b"\x16\x03\x01\xff\xff" + bytes(70000))


async def garbage_after_the_handshake(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.step(peer.tls.write, b"hello")
    await settling.wait()
    peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))


async def end_without_farewell(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.step(peer.tls.write, b"hello")
    await settling.wait()
    peer.sock.shutdown(socket.SHUT_WR)


async def half_a_record(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.tls.write(b"hello")
    peer.sock.sendall(peer.outgoing.read()[:-3])
    await settling.wait()
    peer.sock.close()


async def reset_after_the_handshake(peer, settling, protocols):
    await peer.shake_hands(settling)
    await settling.wait()
    peer.reset()


async def farewell(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.step(peer.tls.write, b"hello")
    await settling.wait()
    peer.step(peer.tls.unwrap)
    await settling.wait()
    peer.sock.close()


async def many_small_records(peer, settling, protocols):
    await peer.shake_hands(settling)
    for _ in range(300):
        peer.tls.write(b"x")
    data = peer.outgoing.read()
    for start in range(0, len(data), 7):
        peer.sock.sendall(data[start : start + 7])
        if start % 700 == 0:
            await settling.wait()
    await settling.wait()
    peer.sock.close()


async def server_aborts(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.step(peer.tls.write, b"hello")
    await settling.wait()
    protocols[0].transport.abort()
    await settling.wait()
    peer.sock.close()


async def server_closes_and_the_peer_is_silent(peer, settling, protocols):
    await peer.shake_hands(settling)
    peer.step(peer.tls.write, b"hello")
    await settling.wait()
    protocols[0].transport.write(bytes(1000))
    protocols[0].transport.close()
    protocols[0].transport.write(b"late")
    await settling.wait()
    peer.sock.close()


STAGES = [
    nothing_at_all,
    reset_at_once,
    half_a_greeting,
    reset_in_the_handshake,
    garbage_for_a_greeting,
    greeting_of_unheard_length,
    garbage_after_the_handshake,
    end_without_farewell,
    half_a_record,
    reset_after_the_handshake,
    farewell,
    many_small_records,
    server_aborts,
    server_closes_and_the_peer_is_silent,
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_broken_client_ends_as_on_the_standard_loop_and_the_server_goes_on(stage):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        settling, calls, protocols = Settling(), [], []

        def make():
            protocols.append(Recorder(calls))
            return protocols[-1]

        server = await loop.create_server(make, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        peer = Peer(address)
        await settling.wait()
        await stage(peer, settling, protocols)
        await settling.wait()
        if protocols[0].transport is not None:
            await protocols[0].lost
        # Records arrive in pieces of any size.
        data = b"".join(entry for entry in calls if isinstance(entry, bytes))
        seen += [data, *(entry for entry in calls if not isinstance(entry, bytes))]
        calls.clear()
        again = Peer(address)
        await settling.wait()
        await again.shake_hands(settling)
        again.step(again.tls.write, b"after all")
        for _ in range(2):
            await settling.wait()
        seen.append(calls[:2])
        for connection in (peer, again):
            connection.sock.close()
        for _ in range(2):
            await settling.wait()
        server.close()
        settling.close()

    assert compare(scenario)[-1] == ["made", b"after all"]
