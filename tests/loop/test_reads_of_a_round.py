"""How much of a stream a program gets at once, and what runs before it gets more.

A stream is read once in each round: a callback that the protocol schedules comes before the next
data, also where the protocol's buffer, or what one read may bring, is small.
"""

import asyncio
import socket

import pytest

from compared import compare
from tls_ends import client_context, server_context

SENT = bytes(range(64))


def filled_pair():
    """A connected socket at which all of `SENT` has arrived, and then the end."""
    ours, theirs = socket.socketpair()
    theirs.sendall(SENT)
    theirs.close()
    return ours


class Small(asyncio.BufferedProtocol):
    """A protocol with one small buffer, which says how much of it is filled."""

    def __init__(self):
        self.buffer = bytearray(8)
        self.filled = asyncio.Queue()

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.filled.put_nowait(count)

    def eof_received(self):
        self.filled.put_nowait(0)


def test_task_empties_only_buffer_before_it_is_filled_again():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(Small, sock=filled_pair())
        received = b""
        while count := await protocol.filled.get():
            received += protocol.buffer[:count]
        seen.append(received)

    assert compare(scenario) == [SENT]


class Scheduling:
    """Notes what comes, has something noted after it, and pauses for a while after the third."""

    def __init__(self, seen):
        self.seen = seen
        self.count = 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        if isinstance(self, asyncio.Protocol):
            transport.max_size = 8

    def note(self, data):
        loop = asyncio.get_running_loop()
        self.count += 1
        self.seen.append(data)
        loop.call_soon(self.seen.append, f"after {self.count}")
        if self.count == 3:
            loop.call_soon(self.pause)

    def pause(self):
        self.transport.pause_reading()
        self.seen.append("paused")
        asyncio.get_running_loop().call_later(0.01, self.resume)

    def resume(self):
        self.seen.append("resumed")
        self.transport.resume_reading()

    def eof_received(self):
        self.seen.append("end")

    def connection_lost(self, error):
        self.lost.set_result(error)


class Data(Scheduling, asyncio.Protocol):
    def data_received(self, data):
        self.note(data)


class Buffered(Scheduling, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.buffer = bytearray(8)
        return self.buffer

    def buffer_updated(self, count):
        self.note(bytes(self.buffer[:count]))


@pytest.mark.parametrize("kind", [Data, Buffered])
def test_what_a_protocol_schedules_comes_before_its_next_data(kind):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: kind(seen), sock=filled_pair())
        assert await protocol.lost is None

    seen = compare(scenario)
    assert b"".join(data for data in seen if isinstance(data, bytes)) == SENT
    assert seen[:2] == [SENT[:8], "after 1"]


def test_what_a_protocol_of_tls_schedules_comes_before_its_next_data():
    async def scenario(seen):
        async def serve(reader, writer):
            writer.write(SENT)
            writer.close()

        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            host, port = server.sockets[0].getsockname()
            secured = {"ssl": client_context(), "server_hostname": "localhost"}
            _, protocol = await loop.create_connection(
                lambda: Buffered(seen), host, port, **secured
            )
            assert await protocol.lost is None

    seen = compare(scenario)
    assert b"".join(data for data in seen if isinstance(data, bytes)) == SENT
    assert "paused" in seen


def test_reader_gets_at_most_max_size_at_once():
    async def scenario(seen):
        reader, writer = await asyncio.open_connection(sock=filled_pair())
        writer.transport.max_size = 24
        while data := await reader.read(1 << 20):
            seen.append(data)
        writer.close()

    assert compare(scenario) == [SENT[:24], SENT[24:48], SENT[48:]]


def test_max_size_of_the_standard_class_holds_for_new_transports(monkeypatch):
    monkeypatch.setattr(asyncio.selector_events._SelectorTransport, "max_size", 32)

    async def scenario(seen):
        reader, writer = await asyncio.open_connection(sock=filled_pair())
        seen.append(writer.transport.max_size)
        while data := await reader.read(1 << 20):
            seen.append(data)
        writer.close()

    assert compare(scenario) == [32, SENT[:32], SENT[32:]]


def test_max_size_may_be_more_than_what_is_read_otherwise():
    async def scenario(seen):
        # What has arrived is more than one read brings otherwise, if the system lets it.
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        theirs.setblocking(False)
        sent = 0
        while True:
            try:
                sent += theirs.send(bytes(1 << 14))
            except BlockingIOError:
                break
        theirs.close()

        received = asyncio.get_running_loop().create_future()

        class Large(asyncio.Protocol):
            def connection_made(self, transport):
                seen.append(type(transport).max_size)
                transport.max_size = 1 << 22

            def data_received(self, data):
                received.set_result(len(data))

        await asyncio.get_running_loop().create_connection(Large, sock=ours)
        seen.append(await received == sent)

    assert compare(scenario) == [256 * 1024, True]


def test_datagrams_are_cut_to_max_size():
    async def scenario(seen):
        received = asyncio.Queue()

        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                received.put_nowait(data)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for size in (transport.max_size, 16):
                transport.max_size = size
                sender.sendto(SENT, transport.get_extra_info("sockname"))
                seen.append(await received.get())
        transport.close()

    assert compare(scenario) == [SENT, SENT[:16]]


def test_negative_max_size_is_refused_and_loses_nothing(our_loop):
    async def main():
        received = asyncio.get_running_loop().create_future()

        class Whole(asyncio.Protocol):
            def __init__(self):
                self.data = b""

            def data_received(self, data):
                self.data += data

            def eof_received(self):
                received.set_result(self.data)

        transport, _ = await asyncio.get_running_loop().create_connection(Whole, sock=filled_pair())
        with pytest.raises(ValueError, match="max_size must not be negative: -1"):
            transport.max_size = -1
        return await received

    assert our_loop.run_until_complete(main()) == SENT
