"""Where the bytes are when `write` returns: in the kernel, if the socket takes them.

Each test runs on the standard loop as well, but for those of the option that gathers writes.
"""

import array
import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from test_stream_callbacks import BIG, Protocol, connected, reader_of, told

import offloop
from compared import compare, seen_on
from tls_by_hand import Pair

WAIT_MAX_S = 30.0

PIECES = {
    "bytes": b"small",
    "bytearray": bytearray(b"small"),
    "memoryview": memoryview(b"small"),
    "words": memoryview(array.array("I", [7, 8])),
    "lines": [b"sm", b"", b"all"],
}


def written(transport, piece) -> bytes:
    """Write one of the pieces, and return what it comes to."""
    if isinstance(piece, list):
        transport.writelines(piece)
        return b"".join(piece)
    transport.write(piece)
    return bytes(piece)


@pytest.mark.quick
@pytest.mark.parametrize("kind", PIECES)
def test_what_is_written_is_there_for_the_other_side_before_write_returns(run, kind):
    async def main():
        transport, _, theirs = await connected()
        theirs.setblocking(False)
        for _ in range(3):
            wanted = written(transport, PIECES[kind])
            assert theirs.recv(100) == wanted
            assert transport.get_write_buffer_size() == 0
        transport.close()
        theirs.close()

    run(main())


def test_what_follows_goes_out_as_long_as_the_socket_takes_it(run):
    async def main():
        transport, _, theirs = await connected()
        theirs.setblocking(False)
        sent = taken = 0
        while transport.get_write_buffer_size() == 0:
            transport.write(bytes(10_000))
            sent += 10_000
        with pytest.raises(BlockingIOError):
            while True:
                taken += len(theirs.recv(1 << 20))
        # All but what is said to wait.
        assert sent - taken == transport.get_write_buffer_size() > 0
        transport.abort()
        theirs.close()

    run(main())


@pytest.mark.parametrize("change", [bytearray, lambda data: memoryview(bytearray(data))])
def test_what_has_to_wait_is_sent_as_it_was(run, change):
    async def main():
        transport, protocol, theirs = await connected()
        data = change(bytes(range(256)) * (BIG // 256))
        transport.write(data)
        assert 0 < transport.get_write_buffer_size() < len(data)
        wanted = bytes(data)
        data[-4:] = b"gone"
        received = bytearray()

        def read():
            while part := theirs.recv(1 << 20):
                received.extend(part)

        thread = threading.Thread(target=read)
        thread.start()
        transport.close()
        assert await protocol.lost is None
        await asyncio.to_thread(thread.join)
        theirs.close()
        return received, wanted

    received, wanted = run(main())
    # The standard loop keeps no copy of what can change.
    assert received in (wanted, wanted[:-4] + b"gone")


def test_buffer_may_be_cleared_when_the_protocol_is_told_to_pause():
    class Clearing(Protocol):
        def pause_writing(self):
            try:
                self.data.clear()
            except BufferError:
                self.note("held")

    async def scenario(seen):
        transport, protocol, theirs = await connected(Clearing)
        protocol.data = bytearray(BIG)
        transport.write(protocol.data)
        waits = transport.get_write_buffer_size()
        seen.append((len(protocol.data), list(protocol.events), waits > 0))
        transport.abort()
        theirs.close()

    # From Python 3.12 on the standard loop keeps a view of it, which the guide tells.
    assert seen_on(offloop.new_event_loop, scenario) == [(0, [], True)]


def test_tokens_reach_the_client_while_the_next_is_computed(run):
    """The generator waits, and with it the loop, until the client has read the one before."""
    read = threading.Semaphore(0)

    async def answer(_reader, writer):
        for number in range(5):
            writer.write(b"token %d\n" % number)
            assert read.acquire(timeout=WAIT_MAX_S), "the client had no token"
        writer.close()

    lines = []

    def client(port):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for line in connection.makefile("rb"):
                lines.append(line)
                read.release()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            await asyncio.to_thread(client, server.sockets[0].getsockname()[1])
        return lines

    assert run(main()) == [b"token %d\n" % number for number in range(5)]


def test_tls_records_are_with_the_other_side_before_write_returns(run):
    async def main():
        async with Pair() as pair:
            for size in (10, 1000, 40_000):
                pair.protocol.transport.write(b"x" * size)
                while size:
                    # Nothing of the loop's runs in between.
                    try:
                        size -= len(pair.client.tls.read(size))
                    except ssl.SSLWantReadError:
                        pair.client.incoming.write(pair.client.socket.recv(1 << 16))
            assert pair.protocol.transport.get_write_buffer_size() == 0

    run(main())


def test_child_that_is_handed_the_socket_writes_after_us(run):
    async def main():
        transport, _, theirs = await connected()
        transport.write(b"header ")
        child = "import os; os.write(1, b'body ')"
        fd = transport.get_extra_info("socket").fileno()
        subprocess.run([sys.executable, "-c", child], stdout=fd, check=True)
        transport.write(b"trailer")
        transport.close()
        received = b""
        while part := theirs.recv(100):
            received += part
            await asyncio.sleep(0)
        theirs.close()
        return received

    assert run(main()) == b"header body trailer"


ENDS = {
    "_exit": "os._exit(3)",
    "abort": "os.abort()",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(3)'])",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop", "offloop.EventLoop"])
def test_what_was_drained_is_sent_whatever_ends_the_process(loop, end, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"""
import asyncio, offloop, os, socket, sys
async def main():
    sock = socket.socket(fileno=int(sys.argv[1]))
    _, writer = await asyncio.open_connection(sock=sock)
    writer.write(b"last words")
    await writer.drain()
    {ENDS[end]}
asyncio.Runner(loop_factory={loop}).run(main())
""")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(
            [sys.executable, program, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            check=False,
        )
        theirs.close()
        assert ours.recv(100) == b"last words"


def test_writing_to_a_side_that_is_gone_ends_in_the_same_way():
    async def scenario(seen):
        transport, protocol, theirs = await connected()
        theirs.close()
        for data in (b"one", bytearray(b"two"), bytes(BIG)):
            transport.write(data)
            seen.append(("closing", transport.is_closing(), transport.get_write_buffer_size()))
        seen.append(("lost", repr(await protocol.lost)))

    assert compare(scenario)[-1] == ("lost", "BrokenPipeError(32, 'Broken pipe')")


def test_small_write_before_closing_ends_in_the_same_way():
    class Failing(Protocol):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ValueError("in connection_lost")

    async def scenario(seen):
        errors = told()
        transport, protocol, theirs = await connected(Failing)
        transport.write(b"small")
        transport.close()
        await protocol.lost
        await asyncio.sleep(0)
        theirs.close()
        seen += [error for _, error in errors]

    assert compare(scenario) == [ValueError]


def test_gathered_writes_go_out_in_one_piece_at_the_end_of_the_round():
    async def main():
        assert asyncio.get_running_loop().gather_writes
        transport, protocol, theirs = await connected()
        theirs.setblocking(False)
        transport.write(b"one ")
        transport.writelines([b"two ", b"three"])
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        assert transport.get_write_buffer_size() == 13
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"one two three"
        assert transport.get_write_buffer_size() == 0
        # Much goes at once, since it fills the socket by itself.
        transport.write(bytes(BIG))
        assert theirs.recv(100) == bytes(100)
        theirs.setblocking(True)
        thread = reader_of(theirs)
        transport.close()
        assert await protocol.lost is None
        await asyncio.to_thread(thread.join)

    with asyncio.Runner(loop_factory=lambda: offloop.EventLoop(gather_writes=True)) as runner:
        runner.run(main())


def test_gathered_tls_records_go_out_together():
    async def main():
        async with Pair() as pair:
            # What else the server had to say goes before this.
            pair.protocol.transport.write(b"zero ")
            assert await pair.client.read(5) == b"zero "
            pair.protocol.transport.write(b"one ")
            pair.protocol.transport.write(b"two")
            with pytest.raises(BlockingIOError):
                pair.client.socket.recv(100)
            await asyncio.sleep(0)
            assert await pair.client.read(7) == b"one two"

    with asyncio.Runner(loop_factory=lambda: offloop.EventLoop(gather_writes=True)) as runner:
        runner.run(main())


def test_gathering_is_an_option_and_off():
    loop = offloop.EventLoop()
    assert loop.gather_writes is False
    with pytest.raises(AttributeError):
        loop.gather_writes = True
    loop.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_that_the_program_forks_sends_what_it_writes_itself(run):
    async def main():
        transport, protocol, theirs = await connected()
        transport.write(b"parent ")
        pid = os.fork()
        if pid == 0:
            try:
                transport.write(b"child ")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        transport.write(b"parent")
        received = theirs.recv(100)
        transport.close()
        await protocol.lost
        theirs.close()
        return received

    assert run(main()) == b"parent child parent"
