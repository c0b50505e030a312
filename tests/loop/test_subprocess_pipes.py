"""Pipes: those of child processes, and those that a program connects itself."""

import asyncio
import errno
import hashlib
import os
import socket
import sys
import tracemalloc
from asyncio.subprocess import PIPE

import pytest

import offloop
from compared import compare, seen_on
from offloop._loop.subprocesses import ReadPipeTransport

LARGE = 5_000_003


class Recorder(asyncio.Protocol):
    """Notes what a transport calls."""

    def __init__(self) -> None:
        self.calls = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.calls.append(data)

    def eof_received(self):
        self.calls.append("eof")

    def connection_lost(self, exc):
        self.calls.append(("lost", exc))
        self.lost.set_result(None)


async def connected(protocol=None):
    """A read transport over a new pipe, its protocol, and the end to write to."""
    read, write = os.pipe()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_read_pipe(
        lambda: protocol or Recorder(), os.fdopen(read, "rb", 0)
    )
    return transport, protocol, write


async def rounds(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0.001)


def test_large_data_goes_through_a_child_unchanged(run):
    data = hashlib.shake_256(b"seed").digest(LARGE)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(data)
        return out == data, err, process.returncode

    assert run(main()) == (True, None, 0)


def test_lines_arrive_while_the_child_runs(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        for number in range(100):
            process.stdin.write(b"line %d\n" % number)
            assert await process.stdout.readline() == b"line %d\n" % number
        process.stdin.close()
        assert await process.stdout.read() == b""
        return await process.wait()

    assert run(main()) == 0


def test_pipe_is_read_in_order_up_to_its_end(run):
    async def main():
        _, protocol, write = await connected()
        os.write(write, b"one")
        await rounds()
        os.write(write, b"two")
        await rounds()
        os.close(write)
        await protocol.lost
        return protocol.calls

    assert run(main()) == ["made", b"one", b"two", "eof", ("lost", None)]


def test_paused_pipe_is_not_read(run):
    async def main():
        transport, protocol, write = await connected()
        transport.pause_reading()
        if isinstance(transport, ReadPipeTransport):
            # The standard one does not know in the first versions of 3.11.
            assert not transport.is_reading()
        os.write(write, b"late")
        os.close(write)
        await rounds()
        assert protocol.calls == ["made"]
        transport.resume_reading()
        await protocol.lost
        return protocol.calls

    assert run(main()) == ["made", b"late", "eof", ("lost", None)]


def test_closed_pipe_is_not_read_any_more(run):
    async def main():
        transport, protocol, write = await connected()
        os.write(write, b"never")
        transport.close()
        assert transport.is_closing()
        await protocol.lost
        with pytest.raises(BrokenPipeError):
            os.write(write, b"x")
        os.close(write)
        return protocol.calls

    assert run(main()) == ["made", ("lost", None)]


def test_new_protocol_gets_what_comes_from_then_on(run):
    async def main():
        transport, protocol, write = await connected()
        other = Recorder()
        transport.set_protocol(other)
        os.write(write, b"data")
        os.close(write)
        await other.lost
        return protocol.calls, other.calls

    assert run(main()) == (["made"], [b"data", "eof", ("lost", None)])


def test_what_a_protocol_raises_is_reported_and_reading_goes_on(run):
    reports = []

    class Raises(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise ArithmeticError("on purpose")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        _, protocol, write = await connected(Raises())
        os.write(write, b"bad")
        await rounds()
        os.write(write, b"good")
        os.close(write)
        await protocol.lost
        return protocol.calls

    assert run(main()) == ["made", b"bad", b"good", "eof", ("lost", None)]
    assert [str(report["exception"]) for report in reports] == ["on purpose"]
    assert "_read_ready()" in reports[0]["message"]


def test_terminal_that_hangs_up_closes_the_transport_quietly(run):
    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        ours, theirs = os.openpty()
        _, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(ours, "rb", 0))
        os.write(theirs, b"text")
        await rounds()
        os.close(theirs)
        await protocol.lost
        [made, data, (lost, error)] = protocol.calls
        assert type(error) is OSError
        return made, data, lost, error.errno, reports

    assert run(main()) == ("made", b"text", "lost", 5, [])


def test_error_of_the_system_is_reported_and_closes_the_transport(run):
    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        transport, protocol, write = await connected()
        # The number means a socket now that is not connected.
        with socket.socket() as other:
            os.dup2(other.fileno(), transport.get_extra_info("pipe").fileno())
        transport._read_ready()
        await protocol.lost
        os.close(write)
        [report] = reports
        return report["message"], report["exception"].errno, protocol.calls[-1][1].errno

    number = errno.ENOTCONN
    assert run(main()) == ("Fatal read error on pipe transport", number, number)


def test_short_reads_ask_for_no_large_memory(our_loop):
    async def main():
        _, protocol, write = await connected()
        os.write(write, b"warm")
        await rounds()
        tracemalloc.start()
        os.write(write, b"x" * 100)
        await rounds()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        os.close(write)
        await protocol.lost
        assert protocol.calls[2] == b"x" * 100
        return peak

    # The standard transport asks for 256 KiB.
    assert our_loop.run_until_complete(main()) < 64 * 1024


def test_what_is_no_pipe_is_refused(run, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"data")

    async def main():
        loop = asyncio.get_running_loop()
        with open(file, "rb") as opened, pytest.raises(ValueError, match="pipes/sockets only"):
            await loop.connect_read_pipe(Recorder, opened)

    run(main())


def test_text_of_a_transport_names_its_state(run):
    async def main():
        transport, protocol, write = await connected()
        await rounds()
        texts = [repr(transport).split(" fd=")[1].split(" ", 1)[1]]
        transport.pause_reading()
        texts.append(repr(transport).split(" fd=")[1].split(" ", 1)[1])
        os.close(write)
        transport.close()
        await protocol.lost
        texts.append(repr(transport).split(" ", 1)[1].split(" fd=")[0])
        return texts

    assert run(main()) == ["polling>", "idle>", "closed"]


def test_end_of_a_child_is_told_after_the_end_of_its_pipes():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        class Noting(asyncio.SubprocessProtocol):
            def pipe_connection_lost(self, fd, exc):
                seen.append((fd, exc))

            def process_exited(self):
                seen.append("exited")

            def connection_lost(self, exc):
                over.set_result(None)

        reading, writing = os.pipe()
        transport, _ = await loop.subprocess_exec(
            Noting, "/bin/sh", "-c", "read line", stdin=reading
        )
        os.close(reading)
        # Everything has happened when the loop looks.
        os.write(writing, b"go on\n")
        os.close(writing)
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        await over
        transport.close()

    if sys.version_info >= (3, 12):
        seen = compare(scenario)
    else:
        # A thread tells the standard loop, at any time.
        seen = seen_on(offloop.new_event_loop, scenario)
    # From Python 3.14 on the transport is told in the same round.
    assert (seen[-1] == "exited") == (sys.version_info < (3, 14))
