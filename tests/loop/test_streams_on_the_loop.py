"""Stream connections: every byte arrives once and in order, however it is written and read.

Each test runs on the standard loop as well; the other end is a plain socket wherever possible, so
that one transport is looked at at a time.
"""

import asyncio
import socket
import threading

import pytest

import offloop

BIG = 8 << 20
"""Far more than a socket's buffers hold."""


class Recorder(asyncio.Protocol):
    """Notes what it is told, in order; data is put together."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.on_data = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        assert data
        self.data += data
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self):
        self.events.append("eof")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exc):
        self.events.append(("lost", type(exc)))
        self.lost.set_result(exc)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """Reads into a small buffer of its own."""

    def __init__(self, size: int = 1000) -> None:
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]


async def connected(make_protocol=Recorder):
    """A protocol with its transport, and the plain socket at the other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(make_protocol, sock=ours)
    return transport, protocol, theirs


async def received(theirs: socket.socket, count: int | None = None) -> bytes:
    """Read so many bytes, or to the end, in a thread."""

    def read() -> bytes:
        data = bytearray()
        while count is None or len(data) < count:
            part = theirs.recv(1 << 20 if count is None else count - len(data))
            if not part:
                break
            data += part
        return bytes(data)

    return await asyncio.get_running_loop().run_in_executor(None, read)


def pattern(size: int) -> bytes:
    """Bytes in which any piece that is missing or doubled shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


PIECES = {
    "one byte": [b"x"],
    "many small": [b"%d," % number for number in range(3000)],
    "large": [pattern(BIG)],
    "large and small": [pattern(1 << 20), b"tail", pattern(1 << 16), b"", b"end"],
    "nothing between": [b"a", b"", b"", b"b"],
    "around the limit": [bytes(65535), bytes(65536), bytes(65537)],
}


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("how", ["write", "writelines", "both"])
def test_what_is_written_arrives_in_order(run, pieces, how):
    async def main():
        transport, protocol, theirs = await connected()
        parts = PIECES[pieces]
        reading = asyncio.create_task(received(theirs))
        if how == "writelines":
            transport.writelines(parts)
        else:
            for part in parts:
                transport.write(part)
        if how == "both":
            transport.writelines(iter(parts))
        transport.close()
        data = await reading
        assert await protocol.lost is None
        theirs.close()
        return data

    expected = b"".join(PIECES[pieces]) * (2 if how == "both" else 1)
    assert run(main()) == expected


def test_nothing_is_a_write_like_any_other():
    # The standard loop waits for ever for room to send empty pieces at the end of a list.
    async def main():
        transport, protocol, theirs = await connected()
        transport.write(b"")
        transport.writelines([])
        transport.writelines([b"", b""])
        assert transport.get_write_buffer_size() == 0
        transport.writelines([b"some", b"", b""])
        transport.write(b"")
        transport.close()
        await protocol.lost
        data = await received(theirs)
        theirs.close()
        return data

    assert offloop.run(main()) == b"some"


@pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("pieces", PIECES)
def test_what_is_sent_is_received_in_order(run, pieces, protocol):
    async def main():
        _, ours, theirs = await connected(protocol)

        def send():
            for part in PIECES[pieces]:
                theirs.sendall(part)
            theirs.close()

        thread = threading.Thread(target=send)
        thread.start()
        assert await ours.lost is None
        thread.join()
        return ours

    ours = run(main())
    assert ours.data == b"".join(PIECES[pieces])
    assert ours.events == ["made", "eof", ("lost", type(None))]


@pytest.mark.parametrize("kind", [lambda data: data, memoryview], ids=["bytearray", "memoryview"])
@pytest.mark.parametrize("size", [10, BIG])
def test_what_was_given_arrives_though_the_buffer_changes_afterwards(kind, size):
    # The standard loop from Python 3.12 on sends what stands in the buffer later.
    async def main():
        transport, _, theirs = await connected()
        data = bytearray(pattern(size))
        expected = bytes(data)
        transport.write(kind(data))
        transport.writelines([kind(data)])
        data[:] = bytes(len(data))
        data += b"and it may grow"
        assert await received(theirs, 2 * len(expected)) == 2 * expected
        transport.abort()
        theirs.close()

    offloop.run(main())


@pytest.mark.parametrize("data", ["text", 7, 2.5, [b"list"]])
def test_what_is_no_bytes_is_refused(run, data):
    async def main():
        transport, _, theirs = await connected()
        with pytest.raises(TypeError, match="data argument must be a bytes"):
            transport.write(data)
        with pytest.raises(TypeError):
            transport.writelines([data])
        transport.write(b"still works")
        assert await received(theirs, 11) == b"still works"
        transport.abort()
        theirs.close()

    run(main())


@pytest.mark.parametrize("nothing", [None, "", 0, []])
def test_lines_of_no_bytes_are_refused_also_where_they_are_empty(our_loop, nothing):
    # The latest versions of the standard loop drop them.
    async def main():
        transport, _, theirs = await connected()
        with pytest.raises(TypeError):
            transport.writelines([b"good", nothing])
        transport.writelines([b"still ", b"", bytearray(), b"works"])
        assert await received(theirs, 11) == b"still works"
        transport.abort()
        theirs.close()

    our_loop.run_until_complete(main())


def test_view_of_wide_items_counts_in_bytes(run):
    async def main():
        transport, _, theirs = await connected()
        transport.write(memoryview(pattern(4000)).cast("I"))
        assert await received(theirs, 4000) == pattern(4000)
        transport.abort()
        theirs.close()

    run(main())


def test_data_written_just_before_the_loop_stops_arrives(make_loop):
    loop = make_loop()
    transport, _, theirs = loop.run_until_complete(connected())
    loop.call_soon(transport.write, b"last words")
    loop.call_soon(loop.stop)
    loop.run_forever()
    theirs.settimeout(5)
    assert theirs.recv(100) == b"last words"

    def write_and_exit():
        transport.write(b"farewell")
        raise SystemExit

    loop.call_soon(write_and_exit)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert theirs.recv(100) == b"farewell"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    theirs.close()


def test_data_written_while_the_loop_does_not_run_arrives(make_loop):
    loop = make_loop()
    transport, _, theirs = loop.run_until_complete(connected())
    transport.write(b"between runs")
    loop.run_until_complete(asyncio.sleep(0))
    assert theirs.recv(100) == b"between runs"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    theirs.close()


def test_data_is_sent_before_the_loop_waits_and_before_a_later_round(run):
    async def main():
        transport, _, theirs = await connected()
        theirs.setblocking(False)
        transport.write(b"now")
        await asyncio.sleep(0)
        data = theirs.recv(100)
        transport.abort()
        theirs.close()
        return data

    assert run(main()) == b"now"


def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low_one(run):
    async def main():
        transport, protocol, theirs = await connected()
        transport.set_write_buffer_limits(high=200_000, low=50_000)
        assert transport.get_write_buffer_limits() == (50_000, 200_000)
        sizes = []
        while "pause" not in protocol.events:
            transport.write(bytes(50_000))
            sizes.append(transport.get_write_buffer_size())
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 0
        assert protocol.events == ["made", "pause"]
        theirs.settimeout(None)
        await received(theirs, 50_000 * len(sizes))
        while "resume" not in protocol.events:
            await asyncio.sleep(0)
        assert protocol.events == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        theirs.close()

    run(main())


def test_limits_are_checked_and_may_pause_at_once(run):
    async def main():
        transport, protocol, theirs = await connected()
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.write(pattern(BIG))
        assert protocol.events == ["made", "pause"]
        await received(theirs, BIG)
        while "resume" not in protocol.events:
            await asyncio.sleep(0)
        transport.abort()
        theirs.close()

    run(main())


def test_writing_in_resume_writing_keeps_the_order(run):
    async def main():
        class Filler(Recorder):
            written = 0

            def fill(self):
                while self.written < 200 and self.events[-1] != "pause":
                    self.transport.write(self.written.to_bytes(4, "big") * 10_000)
                    self.written += 1
                if self.written == 200 and not self.transport.is_closing():
                    self.transport.close()

            def resume_writing(self):
                super().resume_writing()
                self.fill()

        _, protocol, theirs = await connected(Filler)
        reading = asyncio.create_task(received(theirs))
        protocol.fill()
        data = await reading
        theirs.close()
        return data

    expected = b"".join(number.to_bytes(4, "big") * 10_000 for number in range(200))
    assert run(main()) == expected


def test_paused_reading_receives_nothing_until_it_is_resumed(run):
    async def main():
        transport, protocol, theirs = await connected()
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.sendall(b"held back")
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        while protocol.data != b"held back":
            await asyncio.sleep(0)
        protocol.on_data = lambda data: transport.pause_reading()
        theirs.sendall(bytes(2_000))
        while transport.is_reading():
            await asyncio.sleep(0)
        seen = len(protocol.data)
        theirs.sendall(b"more")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(protocol.data) == seen
        transport.close()
        assert not transport.is_reading()
        await protocol.lost
        theirs.close()

    run(main())


def test_half_closed_connection_still_writes(run):
    async def main():
        class Keeping(Recorder):
            def eof_received(self):
                super().eof_received()
                return True

        transport, protocol, theirs = await connected(Keeping)
        theirs.sendall(b"question")
        theirs.shutdown(socket.SHUT_WR)
        while "eof" not in protocol.events:
            await asyncio.sleep(0)
        assert not transport.is_closing()
        transport.write(pattern(1 << 20))
        assert transport.can_write_eof()
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match=r"Cannot call write.*\(\) after write_eof\(\)"):
            transport.writelines([b"x"])
        assert await received(theirs) == pattern(1 << 20)
        transport.close()
        await protocol.lost
        theirs.close()
        return bytes(protocol.data)

    assert run(main()) == b"question"


def test_write_eof_lets_the_other_end_answer(run):
    async def main():
        transport, protocol, theirs = await connected()
        transport.write(b"all")
        transport.write_eof()
        assert await received(theirs) == b"all"
        theirs.sendall(b"answer")
        theirs.close()
        await protocol.lost
        return bytes(protocol.data), protocol.events

    assert run(main()) == (b"answer", ["made", "eof", ("lost", type(None))])


def test_protocol_may_change_in_mid_stream(run):
    async def main():
        transport, first, theirs = await connected()
        second, third = BufferedRecorder(7), Recorder()
        for protocol, text in ((first, b"first"), (second, b"second, longer"), (third, b"third")):
            transport.set_protocol(protocol)
            assert transport.get_protocol() is protocol
            theirs.sendall(text)
            while protocol.data != text:
                await asyncio.sleep(0)
        theirs.close()
        await third.lost
        return first.events, second.events, third.events

    assert run(main()) == (["made"], [], ["eof", ("lost", type(None))])


def test_protocol_that_replaces_itself_while_it_receives_loses_nothing(run):
    async def main():
        transport, first, theirs = await connected()
        second = Recorder()
        first.on_data = lambda data: transport.set_protocol(second)
        data = pattern(4 << 20)
        thread = threading.Thread(target=lambda: (theirs.sendall(data), theirs.close()))
        thread.start()
        await second.lost
        thread.join()
        assert first.data
        return bytes(first.data + second.data) == data

    assert run(main())


def test_closing_sends_what_waits_and_aborting_does_not(run):
    async def main():
        transport, protocol, theirs = await connected()
        transport.write(pattern(BIG))
        transport.close()
        transport.close()
        assert transport.is_closing()
        transport.write(b"after close")
        data = await received(theirs)
        assert await protocol.lost is None
        other, other_protocol, other_end = await connected()
        other.write(pattern(BIG))
        other.abort()
        assert other.get_write_buffer_size() == 0
        assert await other_protocol.lost is None
        less = await received(other_end)
        theirs.close()
        other_end.close()
        return data[:BIG] == pattern(BIG), data[BIG:] in (b"", b"after close"), len(less) < BIG

    assert run(main()) == (True, True, True)


def test_write_after_the_loss_is_dropped_and_warned_of_in_the_end(run, caplog):
    async def main():
        transport, protocol, theirs = await connected()
        theirs.close()
        await protocol.lost
        for _ in range(10):
            transport.write(b"lost")
        return transport.get_write_buffer_size()

    assert run(main()) == 0
    assert "socket.send() raised exception." in caplog.text


def test_stream_reader_and_writer_carry_a_conversation(run):
    async def main():
        async def answer(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.write(b"bye\n")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            lines = []
            for number in range(50):
                writer.write(b"line %d\n" % number)
                lines.append(await reader.readline())
            large = b"x" * 60_000 + b"\n"
            writer.write(large)
            assert await reader.readline() == large.upper()
            writer.write_eof()
            assert await reader.read() == b"bye\n"
            writer.close()
            await writer.wait_closed()
        return lines

    assert run(main()) == [b"LINE %d\n" % number for number in range(50)]


def test_stream_reader_pauses_a_sender_that_is_too_fast(run):
    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1000)
        data = pattern(4 << 20)
        thread = threading.Thread(target=lambda: (theirs.sendall(data), theirs.close()))
        thread.start()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(reader._buffer) <= 1000 + (256 << 10)
        seen = await reader.readexactly(10)
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"not in there at all")
        seen += await reader.read(-1)
        thread.join()
        writer.close()
        await writer.wait_closed()
        return seen == data

    assert run(main())


def test_extra_information_is_the_sockets_own(run):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        sock = transport.get_extra_info("socket")
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info("peername") == sock.getpeername() == address
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("nothing", 7) == 7
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        text = repr(transport).partition(" ")[2]
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()
        return text.replace(str(sock.fileno()), "")

    assert "read=polling write=<idle, bufsize=0>" in run(main())


def test_transports_of_our_loop_are_native():
    async def main():
        transport, protocol, theirs = await connected()
        name = type(transport).__module__
        theirs.close()
        await protocol.lost
        return name

    assert offloop.run(main()) == "offloop._loop.transports"
