"""Datagrams and pipes on our loop, and what reading asks of the memory allocator.

Each test of behaviour runs on the standard loop as well.
"""

import asyncio
import os
import pty
import random
import socket
import subprocess
import sys
import threading

import pytest

from compared import compare
from steps import until

SIZES = [1, 0, 1_400, 60_000, 3, 60_000, 0]


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, object]] = []
        self.errors: list[type] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        assert type(data) is bytes
        self.got.append((data, addr))

    def error_received(self, exc):
        self.errors.append(type(exc))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_datagrams_arrive_whole_with_their_sender(run, address):
    chance = random.Random(1)
    sent = [chance.randbytes(size) for size in SIZES]

    async def main():
        loop = asyncio.get_running_loop()
        near, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=(address, 0))
        far, other = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=near.get_extra_info("sockname")[:2]
        )
        sender = far.get_extra_info("sockname")
        for count, data in enumerate(sent, 1):
            far.get_extra_info("socket")._sock.send(data)
            await until(lambda count=count: len(protocol.got) == count)
        near.sendto(b"answer", sender)
        await until(lambda: other.got)
        assert other.got == [(b"answer", near.get_extra_info("sockname"))]
        near.close()
        far.close()
        await protocol.lost
        return [data for data, _ in protocol.got], {addr == sender for _, addr in protocol.got}

    assert run(main()) == (sent, {True})


def test_unix_datagrams_arrive_with_or_without_a_name(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "near")
        near, protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=path, family=socket.AF_UNIX
        )
        for name in (None, str(tmp_path / "far")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
                if name is not None:
                    far.bind(name)
                far.sendto(b"x" * 150_000, path)
                await until(lambda: protocol.got)
            assert protocol.got.pop() == (b"x" * 150_000, name)
        near.close()
        await protocol.lost

    run(main())


def test_refusal_and_failing_protocol_leave_the_endpoint_usable(run):
    async def main():
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(type(context["exception"])))

        class Failing(Datagrams):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                raise ValueError(data)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", 0))
            near, protocol = await loop.create_datagram_endpoint(
                Failing, remote_addr=far.getsockname()
            )
            name = near.get_extra_info("sockname")
            for count in (1, 2):
                far.sendto(b"data", name)
                await until(lambda count=count: len(told) == count)
        near.sendto(b"to nobody")
        await until(lambda: protocol.errors)
        near.abort()
        await protocol.lost
        near.abort()
        return told, protocol.errors

    assert run(main()) == ([ValueError, ValueError], [ConnectionRefusedError])


class Reader(asyncio.Protocol):
    """Puts together what arrives."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_all_of_a_pipe_arrives_in_order(run):
    data = random.Random(2).randbytes(3 << 20)

    async def main():
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()

        def write():
            with open(writing, "wb", buffering=0) as pipe:
                start = 0
                for size in (1, 4096, 65_536, 1 << 20, len(data)):
                    start += pipe.write(data[start : start + size])

        thread = threading.Thread(target=write)
        thread.start()
        with open(reading, "rb", buffering=0) as pipe:
            transport, protocol = await loop.connect_read_pipe(Reader, pipe)
            transport.pause_reading()
            transport.resume_reading()
            assert await protocol.lost is None
        thread.join()
        return bytes(protocol.data)

    assert run(main()) == data


def test_terminal_is_read_like_a_pipe(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            transport, protocol = await loop.connect_read_pipe(Reader, terminal)
            os.write(theirs, b"line\n")
            await until(lambda: protocol.data == b"line\r\n")
            os.close(theirs)
            # The kernel's way to say that the other end is closed.
            assert isinstance(await protocol.lost, OSError)
        transport.close()

    run(main())


COLD = """
import asyncio, os, resource, socket, sys
import offloop

SIZE, COUNT = int(sys.argv[2]), 400

async def exchange(kind):
    loop = asyncio.get_running_loop()
    done = asyncio.Queue()
    class Stream(asyncio.Protocol):
        def data_received(self, data): done.put_nowait(len(data))
    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr): done.put_nowait(len(data))
    ours, theirs = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
    )
    ours.setblocking(False)
    send = theirs.send
    if kind == "protocol":
        await loop.create_connection(Stream, sock=ours)
        receive = done.get
    elif kind == "stream":
        reader, _ = await asyncio.open_connection(sock=ours)
        receive = lambda: reader.readexactly(SIZE)
    elif kind == "sock":
        receive = lambda: loop.sock_recv(ours, 1 << 18)
    elif kind == "datagram":
        await loop.create_datagram_endpoint(Datagrams, sock=ours)
        receive = done.get
    else:
        reading, writing = os.pipe()
        await loop.connect_read_pipe(Stream, open(reading, "rb", 0))
        send = lambda data: os.write(writing, data)
        receive = done.get
    data = bytes(SIZE)
    for number in range(2 * COUNT):
        if number == COUNT:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        send(data)
        await receive()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(offloop.run(exchange(sys.argv[1])) / COUNT)
os._exit(0)
"""


@pytest.mark.parametrize("size", [1_000, 60_000])
@pytest.mark.parametrize("kind", ["protocol", "stream", "sock", "datagram", "pipe"])
def test_reading_asks_for_no_memory_that_the_system_must_map(kind, size):
    # With this allocator's setting the standard loop maps 256 KiB for each read of most kinds, and
    # has a page fault for it. Without any, there is nothing that a cold heap could slow down. It
    # is the C library's allocator that is asked: a sanitizer that is preloaded has one of its own.
    instead = {"LD_PRELOAD", "PYTHONPATH", "PYTHONMALLOC"}
    kept = {name: value for name, value in os.environ.items() if name not in instead}
    result = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", COLD, kind, str(size)],
        env={**kept, "MALLOC_MMAP_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    assert float(result.stdout) < 0.5


class Answers(asyncio.DatagramProtocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told = []
        self.paused = False
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.told.append((data, addr))

    def error_received(self, exc):
        self.told.append(type(exc))

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def one_of_a_pair():
    """An endpoint whose peer has no name, its protocol, and the peer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    return *await loop.create_datagram_endpoint(Answers, sock=ours), theirs


@pytest.mark.parametrize("library", ["offloop", "uvloop"])
def test_datagrams_without_address_go_to_the_peer_that_has_no_name(library):
    # The standard transport ends with TypeError: it takes the socket for one without a peer.
    make = pytest.importorskip(library).new_event_loop

    async def main():
        transport, protocol, theirs = await one_of_a_pair()
        transport.sendto(b"one")
        transport.sendto(b"two", None)
        assert [theirs.recv(9), theirs.recv(9)] == [b"one", b"two"]
        theirs.send(b"answer")
        await until(lambda: protocol.told)
        assert protocol.told[0][0] == b"answer"
        theirs.close()
        transport.close()
        assert await protocol.lost is None

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


def test_datagrams_for_a_nameless_peer_wait_while_there_is_no_room(our_loop):
    async def main():
        transport, protocol, theirs = await one_of_a_pair()
        transport.set_write_buffer_limits(100)
        sent = []
        while not protocol.paused:
            sent.append(b"%d" % len(sent))
            transport.sendto(sent[-1])
        # They are sent before it closes.
        transport.close()
        theirs.setblocking(False)
        assert [await our_loop.sock_recv(theirs, 9) for _ in sent] == sent
        assert await protocol.lost is None
        theirs.close()

    our_loop.run_until_complete(main())


def test_pair_of_datagram_sockets_behaves_as_the_standard_transport_otherwise(tmp_path):
    path = str(tmp_path / "other")

    async def scenario(seen):
        transport, protocol, theirs = await one_of_a_pair()
        seen.append(transport.get_extra_info("peername"))
        with pytest.raises(TypeError) as caught:
            transport.sendto("text")
        seen.append(str(caught.value))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            transport.sendto(b"named", path)
            seen.append(other.recv(9))
        os.unlink(path)
        transport.sendto(b"gone", path)
        transport.sendto(bytes(1 << 22), path)
        seen.append(protocol.told)
        theirs.close()
        transport.close()
        seen.append(await protocol.lost)
        transport.abort()

    compare(scenario)


def test_nameless_peer_that_is_gone_is_an_error_of_the_endpoint(our_loop):
    async def main():
        transport, protocol, theirs = await one_of_a_pair()
        theirs.close()
        transport.sendto(b"to nobody")
        assert protocol.told == [ConnectionRefusedError]
        assert not transport.is_closing()
        transport.close()
        await protocol.lost

    our_loop.run_until_complete(main())
