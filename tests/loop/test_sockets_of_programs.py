"""Sockets that do more than the system's: subclasses, PySocks, and methods that were replaced.

The loop calls the methods of a socket that has its own. Which ones, and how often, is compared with
the standard loop.
"""

import asyncio
import os
import socket
import struct
import tempfile
import threading

import pytest
import socks

from compared import Settling, compare
from gates import PATIENCE_SECONDS

METHODS = (
    "accept",
    "bind",
    "close",
    "connect",
    "getpeername",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "send",
    "sendall",
    "sendmsg",
    "sendto",
    "shutdown",
)


def noting(seen):
    """Make a class of sockets that note which of their methods are called."""

    def method_of(name):
        def method(self, *arguments):
            # How much is asked for at most is the loop's own affair.
            seen.append(name)
            return getattr(super(Noting, self), name)(*arguments)

        return method

    class Noting(socket.socket):
        pass

    for name in METHODS:
        setattr(Noting, name, method_of(name))
    return Noting


def pair(kind=socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    theirs.settimeout(PATIENCE_SECONDS)
    return ours, theirs


def test_calls_on_a_socket_of_a_class_of_its_own():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        sock = noting(seen)(fileno=ours.detach())
        sock.setblocking(False)
        settling = Settling()
        for receive in (
            lambda: loop.sock_recv(sock, 9),
            lambda: loop.sock_recv_into(sock, bytearray(9)),
            lambda: loop.sock_recvfrom(sock, 9),
            lambda: loop.sock_recvfrom_into(sock, bytearray(9)),
        ):
            theirs.send(b"there")
            seen.append(await receive())
            waiting = asyncio.ensure_future(receive())
            await settling.wait()
            theirs.send(b"later")
            seen.append(await waiting)
        await loop.sock_sendall(sock, b"all")
        seen.append(theirs.recv(9))
        with tempfile.TemporaryFile() as file:
            file.write(b"file")
            file.seek(0)
            await loop.sock_sendfile(sock, file)
        seen.append(theirs.recv(9))
        sock.close()
        theirs.close()
        settling.close()

    compare(scenario)


def test_connecting_accepting_and_sending_to():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        kind = noting(seen)
        with kind(socket.AF_INET, socket.SOCK_STREAM) as listener, kind() as client:
            listener.setblocking(False)
            client.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await asyncio.sleep(0)
            await loop.sock_connect(client, listener.getsockname())
            (await accepting)[0].close()
        with kind(socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.setblocking(False)
            near.bind(("127.0.0.1", 0))
            seen.append(await loop.sock_sendto(near, b"itself", near.getsockname()))
            seen.append((await loop.sock_recvfrom(near, 100))[0])

    compare(scenario)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, seen):
        self.seen = seen
        self.got = asyncio.Queue()

    def datagram_received(self, data, addr):
        self.got.put_nowait((data, addr))

    def error_received(self, exc):
        self.got.put_nowait(exc)


def test_datagrams_of_a_class_of_its_own():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.bind(("127.0.0.1", 0))
            for connects in (False, True):
                sock = noting(seen)(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(("127.0.0.1", 0))
                if connects:
                    sock.connect(theirs.getsockname())
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: Datagrams(seen), sock=sock
                )
                transport.sendto(b"out", None if connects else theirs.getsockname())
                seen.append(theirs.recv(9))
                theirs.sendto(b"in", sock.getsockname())
                seen.append((await protocol.got.get())[0])
                transport.close()
                await asyncio.sleep(0)

    assert "recvfrom" in compare(scenario)


class Own(socket.socket):
    """A socket whose objects can have methods of their own."""


class Wrapper:
    """Something with the methods of a socket that is none."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def recvfrom(self, size):
        data, address = self.sock.recvfrom(size)
        return data.upper(), address


@pytest.mark.parametrize("kind", ["object", "class", "wrapper"])
def test_datagrams_are_received_by_the_method_that_was_put_there(kind, monkeypatch):
    async def scenario(seen):
        def receive(self, size):
            data, address = real(self, size)
            return data.upper(), address

        loop = asyncio.get_running_loop()
        real = socket.socket.recvfrom
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs, monkeypatch.context() as m:
            sock = Own(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            name = sock.getsockname()
            if kind == "wrapper":
                sock.setblocking(False)
                sock = Wrapper(sock)
                transport = loop._make_datagram_transport(sock, protocol := Datagrams(seen))
            else:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: Datagrams(seen), sock=sock
                )
            theirs.sendto(b"before", name)
            seen.append((await protocol.got.get())[0])
            # Also while it is in use.
            if kind == "object":
                sock.recvfrom = lambda size: receive(sock, size)
            elif kind == "class":
                m.setattr(socket.socket, "recvfrom", receive)
            theirs.sendto(b"after", name)
            seen.append((await protocol.got.get())[0])
            transport.close()
            await asyncio.sleep(0)

    before = b"BEFORE" if kind == "wrapper" else b"before"
    assert compare(scenario) == [before, b"AFTER"]


def test_replaced_methods_of_the_standard_class_are_called(monkeypatch):
    async def scenario(seen):
        def note(name):
            real = getattr(socket.socket, name)

            def method(self, *arguments):
                seen.append(name)
                return real(self, *arguments)

            context.setattr(socket.socket, name, method)

        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        ours.setblocking(False)
        with monkeypatch.context() as context:
            for name in ("recv", "recv_into", "send"):
                note(name)
            await loop.sock_sendall(ours, b"out")
            os.write(theirs.fileno(), b"in")
            seen.append(await loop.sock_recv(ours, 9))
            os.write(theirs.fileno(), b"in")
            seen.append(await loop.sock_recv_into(ours, bytearray(9)))
        await loop.sock_sendall(ours, b"again")
        ours.close()
        theirs.close()

    assert compare(scenario) == ["send", "recv", b"in", "recv_into", 2]


def test_server_accepts_by_the_method_of_its_socket():
    async def scenario(seen):
        class Listener(socket.socket):
            def accept(self):
                connection, _ = super().accept()
                seen.append("accepted")
                return connection, ("somebody", 0)

        class Served(asyncio.Protocol):
            def connection_made(self, transport):
                seen.append(transport.get_extra_info("peername")[0])
                transport.write(b"hello")
                transport.close()

        loop = asyncio.get_running_loop()
        listener = Listener()
        listener.bind(("127.0.0.1", 0))
        server = await loop.create_server(Served, sock=listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        seen.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    assert compare(scenario) == ["accepted", "somebody", b"hello"]


class Socks5:
    """A SOCKS5 proxy on the loopback that relays one client's datagrams, and one connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.relay.bind(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.threads = [threading.Thread(target=run) for run in (self._serve, self._forward)]
        for thread in self.threads:
            thread.start()

    def close(self):
        """End both threads and close everything."""
        name = self.relay.getsockname()
        with socket.create_connection(self.address) as last:
            last.shutdown(socket.SHUT_WR)
            self.threads[0].join()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", name)
            self.threads[1].join()
        self.listener.close()
        self.relay.close()

    def _serve(self):
        """Greet each client, and keep its connection until the next one comes."""
        kept = []
        while True:
            client, _ = self.listener.accept()
            while kept:
                kept.pop().close()
            with client.makefile("rwb", buffering=0) as stream:
                greeting = stream.read(2)
                if not greeting:
                    client.close()
                    return
                stream.read(greeting[1])
                stream.write(b"\5\0")
                _, command, _, kind = stream.read(4)
                # Where from is left open: a name of any length, or an address.
                assert command == 3
                stream.read((stream.read(1)[0] if kind == 3 else 4) + 2)
                stream.write(b"\5\0\0\1" + socket.inet_aton("127.0.0.1"))
                stream.write(struct.pack(">H", self.relay.getsockname()[1]))
            kept.append(client)

    def _forward(self):
        """Take the header off what clients send, and put one on what comes back."""
        client = None
        while True:
            data, sender = self.relay.recvfrom(1 << 16)
            if not data:
                return
            if data.startswith(b"\0\0\0\1"):
                client = sender
                target = socket.inet_ntoa(data[4:8]), struct.unpack(">H", data[8:10])[0]
                self.relay.sendto(data[10:], target)
            else:
                header = b"\0\0\0\1" + socket.inet_aton(sender[0]) + struct.pack(">H", sender[1])
                self.relay.sendto(header + data, client)


@pytest.fixture
def proxy():
    """A running proxy."""
    proxy = Socks5()
    yield proxy
    proxy.close()


def proxied(proxy) -> socks.socksocket:
    """A socket whose datagrams go through the proxy."""
    sock = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.set_proxy(socks.SOCKS5, *proxy.address)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def test_datagrams_through_a_proxy_of_pysocks(proxy):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", 0))
            far.settimeout(PATIENCE_SECONDS)
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: Datagrams(seen), sock=proxied(proxy)
            )
            transport.sendto(b"question", far.getsockname())
            data, relay = far.recvfrom(100)
            far.sendto(b"answer to " + data, relay)
            data, sender = await protocol.got.get()
            seen.append((data, sender == far.getsockname()))
            transport.close()
            await asyncio.sleep(0)

    assert compare(scenario) == [(b"answer to question", True)]


def test_calls_on_a_proxied_socket_of_pysocks(proxy):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
            proxied(proxy) as sock,
        ):
            far.bind(("127.0.0.1", 0))
            far.settimeout(PATIENCE_SECONDS)
            for receive in (
                lambda: loop.sock_recvfrom(sock, 100),
                lambda: loop.sock_recv(sock, 100),
            ):
                await loop.sock_sendto(sock, b"question", far.getsockname())
                data, relay = far.recvfrom(100)
                far.sendto(b"answer to " + data, relay)
                received = await receive()
                if isinstance(received, tuple):
                    received = (received[0], received[1] == far.getsockname())
                seen.append(received)

    assert compare(scenario) == [(b"answer to question", True), b"answer to question"]
