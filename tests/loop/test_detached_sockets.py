"""Sockets that are detached or closed behind a transport: the connection ends with an error.

What the standard loop does is the measure, on every way that a transport uses its socket. A number
that was let go of stays open here, so that the kernel goes on telling of it.
"""

import asyncio
import os
import socket

import pytest

from compared import Settling, compare, plain
from tls_ends import client_context, server_context


class Noting(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, seen):
        self.seen = seen
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.seen.append(data)

    def eof_received(self):
        self.seen.append("end")

    def connection_lost(self, exc):
        self.seen.append(("lost", plain(exc)))
        self.lost.set_result(None)


class Filling(Noting, asyncio.BufferedProtocol):
    """As `Noting`, with memory of its own."""

    def __init__(self, seen):
        super().__init__(seen)
        self.memory = bytearray(100)

    def get_buffer(self, sizehint):
        return self.memory

    def buffer_updated(self, nbytes):
        self.seen.append(bytes(self.memory[:nbytes]))


def detach(sock):
    return sock.detach()


def close(sock):
    number = sock.fileno()
    # Still open, and known to the kernel as what is watched.
    copy = os.dup(number)
    sock.close()
    return copy


async def read(transport, theirs):
    theirs.send(b"data")


async def read_end(transport, theirs):
    theirs.shutdown(socket.SHUT_WR)


async def write(transport, theirs):
    transport.write(b"data")


async def write_lines(transport, theirs):
    transport.writelines([b"one", b"two"])


async def write_end(transport, theirs):
    transport.write_eof()


async def pause_and_resume(transport, theirs):
    transport.pause_reading()
    theirs.send(b"data")
    await asyncio.sleep(0)
    transport.resume_reading()


async def end(transport, theirs):
    transport.close()


async def abort(transport, theirs):
    transport.abort()


USES = [read, read_end, write, write_lines, write_end, pause_and_resume, end, abort]


@pytest.mark.parametrize("loses", [detach, close])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("protocol", [Noting, Filling])
def test_socket_that_is_lost_behind_a_stream(loses, use, protocol):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        settling = Settling()
        ours, theirs = socket.socketpair()
        transport, told = await loop.create_connection(lambda: protocol(seen), sock=ours)
        await settling.wait()
        number = loses(ours)
        try:
            await use(transport, theirs)
        except OSError as error:
            seen.append(("raised", plain(error)))
        for _ in range(3):
            await settling.wait()
        seen.append((transport.is_closing(), told.lost.done()))
        if not told.lost.done():
            transport.abort()
            await told.lost
        os.close(number)
        theirs.close()
        settling.close()

    compare(scenario)


@pytest.mark.parametrize("loses", [detach, close])
def test_socket_that_is_lost_behind_a_stream_that_waits_to_write(loses):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        settling = Settling()
        ours, theirs = socket.socketpair()
        transport, told = await loop.create_connection(lambda: Noting(seen), sock=ours)
        transport.write(bytes(1 << 22))
        await settling.wait()
        seen.append(transport.get_write_buffer_size() > 0)
        number = loses(ours)
        theirs.setblocking(False)
        try:
            while theirs.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        for _ in range(3):
            await settling.wait()
        seen.append((transport.is_closing(), told.lost.done()))
        if not told.lost.done():
            transport.abort()
            await told.lost
        os.close(number)
        theirs.close()
        settling.close()

    compare(scenario)


@pytest.mark.parametrize("loses", [detach, close])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
@pytest.mark.parametrize("writes", [False, True])
def test_socket_that_a_protocol_loses_in_a_callback(loses, where, writes):
    async def scenario(seen):
        class Losing(Noting):
            def connection_made(self, transport):
                self.transport = transport
                self.lose("connection_made")

            def data_received(self, data):
                super().data_received(data)
                self.lose("data_received")

            def eof_received(self):
                super().eof_received()
                self.lose("eof_received")
                return True

            def lose(self, callback):
                if callback == where:
                    numbers.append(loses(ours))
                    if writes:
                        self.transport.write(b"x")

        numbers = []
        loop = asyncio.get_running_loop()
        settling = Settling()
        ours, theirs = socket.socketpair()
        transport, told = await loop.create_connection(lambda: Losing(seen), sock=ours)
        theirs.send(b"some")
        await settling.wait()
        theirs.send(b"more")
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(3):
            await settling.wait()
        seen.append((transport.is_closing(), told.lost.done()))
        if not told.lost.done():
            transport.abort()
            await told.lost
        for number in numbers:
            os.close(number)
        theirs.close()
        settling.close()

    compare(scenario)


@pytest.mark.parametrize("loses", [detach, close])
def test_socket_that_is_lost_behind_a_stream_reader(loses):
    async def scenario(seen):
        settling = Settling()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        reading = asyncio.ensure_future(reader.read(9))
        await settling.wait()
        number = loses(ours)
        theirs.send(b"data")
        for _ in range(3):
            await settling.wait()
        if not reading.done():
            reading.cancel()
        await asyncio.wait([reading])
        seen.append(plain(None if reading.cancelled() else reading.exception()))
        writer.transport.abort()
        os.close(number)
        theirs.close()
        settling.close()

    compare(scenario)


@pytest.mark.parametrize("loses", [detach, close])
@pytest.mark.parametrize("use", [read, write])
def test_socket_that_is_lost_behind_tls(loses, use):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        settling = Settling()
        ours, theirs = socket.socketpair()
        serving = loop.create_task(
            loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server_context())
        )
        transport, told = await loop.create_connection(
            lambda: Noting(seen), sock=ours, ssl=client_context(), server_hostname="localhost"
        )
        other, _ = await serving
        await settling.wait()
        number = loses(ours)
        (other if use is read else transport).write(b"data")
        for _ in range(3):
            await settling.wait()
        seen.append(told.lost.done())
        transport.abort()
        other.abort()
        await told.lost
        os.close(number)
        settling.close()

    compare(scenario)


@pytest.mark.parametrize("loses", [detach, close])
@pytest.mark.parametrize("use", ["read", "write"])
def test_socket_that_is_lost_behind_datagrams(loses, use):
    async def scenario(seen):
        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                seen.append(data)

            def error_received(self, exc):
                # As often as the loop asks.
                if not seen:
                    seen.append(("error", plain(exc)))

            def connection_lost(self, exc):
                seen.append(("lost", plain(exc)))

        loop = asyncio.get_running_loop()
        settling = Settling()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.bind(("127.0.0.1", 0))
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ours.bind(("127.0.0.1", 0))
            address = ours.getsockname()
            transport, _ = await loop.create_datagram_endpoint(Datagrams, sock=ours)
            await settling.wait()
            number = loses(ours)
            if use == "read":
                theirs.sendto(b"data", address)
            else:
                transport.sendto(b"data", theirs.getsockname())
            await settling.wait()
            seen.append(transport.is_closing())
            transport.abort()
            await settling.wait()
            os.close(number)
        settling.close()

    compare(scenario)
