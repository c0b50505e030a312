"""Streams over sockets whose methods are the program's own: proxies, counters, test doubles.

The standard loop calls the methods of the socket for every packet. So does ours, unless they are
the system's calls and nothing else.
"""

import asyncio
import errno
import socket

import pytest

import offloop
from compared import compare
from tls_ends import client_context, echo, server_context

METHODS = ("send", "recv", "recv_into", "sendmsg", "shutdown", "close")


def noting(seen: list) -> type[socket.socket]:
    """A class of sockets that writes down which of its methods are called, and calls them."""

    def noted(name):
        real = getattr(socket.socket, name)

        def method(self, *arguments):
            result = real(self, *arguments)
            seen.append((name, result if isinstance(result, int | bytes) else None))
            return result

        return method

    return type("Noting", (socket.socket,), {name: noted(name) for name in METHODS})


def connected_to(kind, address) -> socket.socket:
    sock = kind(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.connect(address)
    sock.setblocking(False)
    return sock


@pytest.mark.quick
@pytest.mark.parametrize("lines", [False, True])
def test_methods_of_the_socket_are_called_for_a_stream(lines):
    async def scenario(seen):
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            sock = connected_to(noting(seen), server.sockets[0].getsockname())
            reader, writer = await asyncio.open_connection(sock=sock)
            for _ in range(3):
                if lines:
                    writer.writelines([b"two ", b"parts"])
                else:
                    writer.write(b"two parts")
                seen.append(await reader.readexactly(9))
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    assert ("recv", b"two parts") in compare(scenario)


def test_methods_of_the_socket_are_called_for_a_buffered_protocol():
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self, seen):
            self.seen, self.memory = seen, bytearray(100)
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, hint):
            return self.memory

        def buffer_updated(self, count):
            self.seen.append(bytes(self.memory[:count]))

        def connection_lost(self, error):
            self.lost.set_result(error)

    async def scenario(seen):
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            sock = connected_to(noting(seen), server.sockets[0].getsockname())
            transport, protocol = await loop.create_connection(lambda: Buffered(seen), sock=sock)
            transport.write(b"hello")
            transport.write_eof()
            seen.append(await protocol.lost)

    assert ("recv_into", 5) in compare(scenario)


def test_methods_of_the_socket_are_called_under_tls():
    async def scenario(seen):
        called = []
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        async with server:
            sock = connected_to(noting(called), server.sockets[0].getsockname())
            options = {"ssl": client_context(), "server_hostname": "localhost"}
            reader, writer = await asyncio.open_connection(sock=sock, **options)
            called.clear()
            writer.write(b"secret")
            seen.append(await reader.readexactly(6))
            writer.close()
            await writer.wait_closed()
        # How many of them carried what is the TLS library's business.
        seen.append({name for name, _ in called} & {"send", "recv", "recv_into", "close"})

    assert compare(scenario)[0] == b"secret"


def test_accepted_sockets_of_a_class_of_its_own():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        own = noting(seen)(fileno=accepted.detach())
        own.setblocking(False)
        reader = asyncio.StreamReader()
        make = lambda: asyncio.StreamReaderProtocol(reader, echo)  # noqa: E731
        await loop.connect_accepted_socket(make, own)
        theirs.sendall(b"hello")
        theirs.setblocking(False)
        seen.append(await loop.sock_recv(theirs, 100))
        theirs.close()
        while ("close", None) not in seen:
            await asyncio.sleep(0)

    assert ("send", 5) in compare(scenario)


class Faulty(socket.socket):
    """A socket that fails where it is told to."""

    failing = ""

    def recv(self, *arguments):
        if self.failing == "recv":
            raise OSError(errno.EIO, "a faulty cable")
        return super().recv(*arguments)

    def send(self, *arguments):
        if self.failing == "send":
            raise OSError(errno.EIO, "a faulty cable")
        return super().send(*arguments)


@pytest.mark.parametrize("failing", ["recv", "send"])
def test_what_a_method_raises_ends_the_connection(failing):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        sock = Faulty(fileno=ours.detach())
        sock.setblocking(False)
        lost = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, error):
                lost.set_result(error)

        transport, _ = await loop.create_connection(Protocol, sock=sock)
        sock.failing = failing
        theirs.send(b"x")
        if failing == "send":
            transport.write(b"x")
        seen.append(repr(await lost))
        theirs.close()

    assert compare(scenario)[-1] == "OSError(5, 'a faulty cable')"


class Wrapper:
    """No socket at all, but all of its methods."""

    def __init__(self, sock, seen):
        self._wrapped, self._seen = sock, seen

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def recv(self, count):
        data = self._wrapped.recv(count)
        self._seen.append(("recv", data))
        return data


def test_wrapper_of_a_socket_is_called():
    async def scenario(seen):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=Wrapper(ours, seen))
        theirs.sendall(b"hello")
        seen.append(await reader.readexactly(5))
        writer.write(b"hello")
        seen.append(theirs.recv(100))
        writer.close()
        await writer.wait_closed()
        theirs.close()

    assert ("recv", b"hello") in compare(scenario)


def test_replaced_method_of_the_standard_class_is_called(monkeypatch):
    async def scenario(seen):
        real = socket.socket.send

        def send(self, data):
            seen.append(bytes(data))
            return real(self, data)

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "send", send)
            ours, theirs = socket.socketpair()
            _, writer = await asyncio.open_connection(sock=ours)
            writer.write(b"hello")
            seen.append(theirs.recv(100))
            writer.close()
            await writer.wait_closed()
            theirs.close()

    assert compare(scenario) == [b"hello", b"hello"]


def test_plain_sockets_and_classes_that_override_nothing_take_the_short_way(our_loop):
    class Plain(socket.socket):
        """As other libraries derive theirs, to add to it."""

        name = "plain"

    async def main():
        for kind in (socket.socket, Plain):
            ours, theirs = socket.socketpair()
            sock = kind(fileno=ours.detach())
            transport, _ = await our_loop.create_connection(asyncio.Protocol, sock=sock)
            assert our_loop._streams() == [transport]
            transport.abort()
            await asyncio.sleep(0)
            theirs.close()

    assert isinstance(our_loop, offloop.EventLoop)
    our_loop.run_until_complete(main())


UNSENT = b"u" * (1 << 20)


class Turned(socket.socket):
    """A socket over which all bits are turned, as a stand-in for one that encrypts."""

    def recv(self, size):
        return bytes(byte ^ 255 for byte in super().recv(size))

    def recv_into(self, buffer):
        count = super().recv_into(buffer)
        buffer[:count] = bytes(byte ^ 255 for byte in buffer[:count])
        return count

    def send(self, data):
        return super().send(bytes(byte ^ 255 for byte in data[: 1 << 14]))

    def sendmsg(self, buffers):
        return self.send(b"".join(buffers))


class Keeping(asyncio.Protocol):
    """A protocol that keeps what comes."""

    def __init__(self):
        self.got = b""
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.got += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


class KeepingBuffer(asyncio.BufferedProtocol, Keeping):
    """The same with a buffer."""

    def get_buffer(self, size):
        self.buffer = bytearray(64)
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        self.got += self.buffer[:count]


@pytest.mark.quick
@pytest.mark.parametrize("size", [0, len(UNSENT)], ids=["nothing unsent", "unsent"])
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@pytest.mark.parametrize("kind", [Keeping, KeepingBuffer])
def test_socket_may_be_exchanged_in_mid_connection(kind, paused, size):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        transport, protocol = await loop.create_connection(kind, sock=ours)
        transport.write(b"plain")
        seen.append(await loop.sock_recv(theirs, 5))
        if paused:
            transport.pause_reading()
        transport.write(UNSENT[:size])
        in_kernel = size - transport.get_write_buffer_size()
        transport._sock = Turned(fileno=ours.detach())
        transport.write(b"turned")
        transport.writelines([b"and ", b"again"])
        if paused:
            transport.resume_reading()
        sent = bytearray()
        while len(sent) < size + 15:
            sent += await loop.sock_recv(theirs, 1 << 16)
        seen.append(sent[:in_kernel] == UNSENT[:in_kernel])
        seen.append(bytes(byte ^ 255 for byte in sent[in_kernel:]).lstrip(b"u"))
        await loop.sock_sendall(theirs, bytes(byte ^ 255 for byte in b"answer"))
        while len(protocol.got) < 6:
            await asyncio.sleep(0)
        other = kind()
        transport.set_protocol(other)
        await loop.sock_sendall(theirs, bytes(byte ^ 255 for byte in b"to another"))
        while len(other.got) < 10:
            await asyncio.sleep(0)
        seen.extend([protocol.got, other.got, transport.get_write_buffer_size()])
        seen.append(transport.get_extra_info("sockname"))
        transport.write_eof()
        seen.append(await loop.sock_recv(theirs, 1))
        transport.close()
        seen.append((await other.lost, transport.is_closing(), transport._sock))
        theirs.close()

    assert compare(scenario)[3:5] == [b"answer", b"to another"]


def test_socket_that_a_program_takes_away_is_closed_by_the_program():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, _ = await loop.create_connection(Keeping, sock=ours)
        loop._remove_reader(ours.fileno())
        transport._sock.close()
        transport._sock = None
        seen.append((repr(transport).split(" ")[1], transport.is_closing(), theirs.recv(1)))
        theirs.close()

    compare(scenario)
