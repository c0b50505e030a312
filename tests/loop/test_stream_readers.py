"""asyncio's stream readers on our loop, which feeds them without the standard protocol's code.

Each test runs on the standard loop as well. What a program replaces or derives must be called, at
whatever moment it was replaced.
"""

import asyncio
import gc
import random
import socket
import sys
import threading

import pytest

import offloop

LIMIT = 1000


async def opened(limit: int = 1 << 16):
    """A reader and its writer, and the plain socket at the other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
    return reader, writer, theirs


async def closed(writer, theirs):
    """End the connection from both sides."""
    theirs.close()
    writer.close()
    await writer.wait_closed()


async def buffered(reader, count: int) -> None:
    """Wait until the reader holds so many bytes."""
    while len(reader._buffer) < count:
        await asyncio.sleep(0)


def test_standard_reader_is_fed_by_us():
    # On every version of Python: otherwise what streams gain would be lost without a sign.
    async def main():
        names = set()
        reader, writer, theirs = await opened()
        sys.setprofile(lambda frame, event, arg: names.add(frame.f_code.co_name))
        for size in (10, 100_000, 100_000):
            sending = threading.Thread(target=theirs.sendall, args=(bytes(size),))
            sending.start()
            assert await reader.readexactly(size) == bytes(size)
            sending.join()
        sys.setprofile(None)
        await closed(writer, theirs)
        return names

    names = offloop.run(main())
    assert "readexactly" in names
    assert not names & {"data_received", "feed_data", "_wakeup_waiter"}


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_size_arrive_as_they_were_sent(run, seed):
    chance = random.Random(seed)
    sizes = [chance.choice((1, 100, 5_000, 40_000, 100_000, 300_000)) for _ in range(40)]
    data = b"".join(chance.randbytes(size) for size in sizes)

    async def main():
        reader, writer, theirs = await opened(limit=chance.choice((100, 1 << 16, 1 << 20)))

        def send():
            start = 0
            for size in sizes:
                theirs.sendall(data[start : start + size])
                start += size
            theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = bytearray()
        while not reader.at_eof():
            if chance.random() < 0.5:
                got += await reader.read(chance.choice((1, 1_000, 70_000)))
                continue
            size = chance.choice((10, 50_000))
            try:
                got += await reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                got += error.partial
        thread.join()
        await closed(writer, theirs)
        return bytes(got)

    assert run(main()) == data


def test_end_in_the_middle_is_an_incomplete_read(run):
    async def main():
        reader, writer, theirs = await opened()
        theirs.sendall(b"first, second")
        assert await reader.readexactly(7) == b"first, "
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(100)
        assert (caught.value.partial, caught.value.expected) == (b"second", 100)
        assert reader.at_eof()
        assert await reader.read(10) == b""
        await closed(writer, theirs)

    run(main())


@pytest.mark.parametrize("over", [0, 1])
def test_reader_pauses_above_twice_its_limit(run, over):
    async def main():
        reader, writer, theirs = await opened(LIMIT)
        theirs.sendall(bytes(2 * LIMIT + over))
        await buffered(reader, 2 * LIMIT + over)
        paused = reader._paused
        assert writer.transport.is_reading() is not paused
        assert await reader.read(LIMIT + over) == bytes(LIMIT + over)
        assert writer.transport.is_reading()
        await closed(writer, theirs)
        return paused

    assert run(main()) is bool(over)


def test_cancelled_read_loses_nothing(run):
    async def main():
        reader, writer, theirs = await opened()
        reading = asyncio.create_task(reader.readexactly(10))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting for incoming data"):
            await reader.read(1)
        theirs.sendall(b"12345")
        await buffered(reader, 5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # The waiter is cancelled, and its task has not run yet, when data arrives.
        reading = asyncio.create_task(reader.readexactly(10))
        await asyncio.sleep(0)
        theirs.sendall(b"67890")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        got = await reader.readexactly(10)
        await closed(writer, theirs)
        return got

    assert run(main()) == b"1234567890"


def test_timeout_of_a_read_leaves_the_reader_usable(run):
    async def main():
        reader, writer, theirs = await opened()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.001)
        theirs.sendall(b"late\n")
        assert await asyncio.wait_for(reader.readline(), 20) == b"late\n"
        await closed(writer, theirs)

    run(main())


def test_exception_that_is_set_is_raised_by_reads(run):
    async def main():
        reader, writer, theirs = await opened()
        reading = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        reader.set_exception(ValueError("set"))
        with pytest.raises(ValueError, match="set"):
            await reading
        theirs.sendall(b"more")
        await buffered(reader, 4)
        with pytest.raises(ValueError, match="set"):
            await reader.read(10)
        await closed(writer, theirs)

    run(main())


def test_data_after_the_end_was_fed_closes_the_connection(run):
    async def main():
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        reader, writer, theirs = await opened()
        reader.feed_eof()
        theirs.sendall(b"more")
        while not writer.is_closing():
            await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            await writer.wait_closed()
        theirs.close()
        return [(context["message"], type(context["exception"])) for context in told]

    text = "Fatal error: protocol.data_received() call failed."
    assert run(main()) == [(text, AssertionError)]


@pytest.mark.parametrize("size", [10, 100_000])
def test_buffer_with_a_view_cannot_grow(run, size):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        reader, writer, theirs = await opened(limit=1 << 20)
        theirs.sendall(bytes(size))
        await buffered(reader, size)
        with memoryview(reader._buffer):
            theirs.sendall(bytes(size))
            while not writer.is_closing():
                await asyncio.sleep(0)
        with pytest.raises(BufferError):
            await writer.wait_closed()
        theirs.close()
        return type(reader.exception()), len(reader._buffer)

    assert run(main()) == (BufferError, size)


class Counting(asyncio.StreamReader):
    """Notes what it is fed."""

    def feed_data(self, data):
        self.fed = [*getattr(self, "fed", []), bytes(data)]
        super().feed_data(data)


def test_derived_reader_is_fed_by_its_own_method(run):
    async def main():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        reader = Counting(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        theirs.sendall(b"one")
        assert await reader.readexactly(3) == b"one"
        theirs.close()
        assert await reader.read() == b""
        transport.close()
        return reader.fed

    assert run(main()) == [b"one"]


@pytest.mark.parametrize("what", ["reader", "protocol", "reader class", "protocol class", "waker"])
def test_replaced_method_is_called_from_then_on(run, what, monkeypatch):
    async def main():
        reader, writer, theirs = await opened()
        owner, name = {
            "reader": (reader, "feed_data"),
            "protocol": (writer.transport.get_protocol(), "data_received"),
            "reader class": (asyncio.StreamReader, "feed_data"),
            "protocol class": (asyncio.StreamReaderProtocol, "data_received"),
            "waker": (asyncio.StreamReader, "_wakeup_waiter"),
        }[what]
        calls = []
        original = getattr(owner, name)

        def replacement(*args):
            calls.append(args[-1:])
            return original(*args)

        for number in range(6):
            if number in (2, 3):
                monkeypatch.setattr(owner, name, replacement)
            elif number == 4:
                monkeypatch.undo()
            theirs.sendall(b"x" * 10)
            assert await reader.readexactly(10) == b"x" * 10
        await closed(writer, theirs)
        return len(calls)

    assert run(main()) == 2


def test_class_that_hides_an_attribute_is_asked_for_it(run, monkeypatch):
    async def main():
        reader, writer, theirs = await opened()
        theirs.sendall(b"one")
        await buffered(reader, 3)
        limits = []

        def limit(self):
            limits.append(vars(self)["_limit"])
            return limits[-1]

        monkeypatch.setattr(
            asyncio.StreamReader, "_limit", property(limit, lambda self, value: None), raising=False
        )
        theirs.sendall(b"two")
        await buffered(reader, 6)
        monkeypatch.undo()
        theirs.sendall(b"end")
        assert await reader.readexactly(9) == b"onetwoend"
        await closed(writer, theirs)
        return limits

    assert run(main()) == [1 << 16]


def test_protocol_of_a_reader_may_be_replaced_and_come_back(run):
    async def main():
        class Other(asyncio.Protocol):
            data = b""

            def data_received(self, data):
                self.data += data

        reader, writer, theirs = await opened()
        theirs.sendall(b"one")
        assert await reader.readexactly(3) == b"one"
        protocol, other = writer.transport.get_protocol(), Other()
        writer.transport.set_protocol(other)
        theirs.sendall(b"two")
        while other.data != b"two":
            await asyncio.sleep(0)
        writer.transport.set_protocol(protocol)
        theirs.sendall(b"three")
        assert await reader.readexactly(5) == b"three"
        await closed(writer, theirs)

    run(main())


def test_data_for_a_reader_that_is_not_kept_any_more_is_dropped(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        theirs.sendall(b"one")
        assert await reader.readexactly(3) == b"one"
        del reader
        gc.collect()
        theirs.sendall(b"for nobody")
        theirs.shutdown(socket.SHUT_WR)
        # The end comes after the data; then nothing more is read.
        while ours.fileno() in loop._selector.get_map():
            await asyncio.sleep(0)
        assert not transport.is_closing()
        transport.close()
        theirs.close()

    run(main())


def test_conversation_in_debug_mode(run):
    async def main():
        reader, writer, theirs = await opened()
        for size in (10, 50_000, 100_000, 10):
            theirs.sendall(bytes(size))
            assert await reader.readexactly(size) == bytes(size)
            writer.write(b"ok")
            await writer.drain()
            await asyncio.sleep(0)
            assert theirs.recv(2) == b"ok"
        await closed(writer, theirs)

    run(main(), debug=True)
