"""Descriptors that a program closes while the loop still watches them.

A program that names a descriptor by its socket may close the socket first and have it forgotten
afterwards. What the standard loop does then is the measure, but for a number that means another
descriptor by now: the standard loop takes it for the old one, and never calls a callback.
"""

import asyncio
import io
import os
import socket
import sys

import pytest

import offloop
from compared import Settling, compare, plain


class Reader:
    """A file object of a program's own, which says its number until it is closed."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        os.close(self.number)
        self.number = -1


class Refusing(Reader):
    """As `Reader`, but says nothing any more once it is closed."""

    def fileno(self) -> int:
        if self.number < 0:
            raise ValueError("I/O operation on closed file")
        return self.number


def as_socket(sock: socket.socket) -> socket.socket:
    return sock


def as_reader(sock: socket.socket) -> Reader:
    return Reader(sock.detach())


def as_refusing(sock: socket.socket) -> Refusing:
    return Refusing(sock.detach())


def as_number(sock: socket.socket) -> int:
    return sock.detach()


def close(file: "int | socket.socket | Reader") -> None:
    os.close(file) if isinstance(file, int) else file.close()


def attempt(seen, call, *arguments):
    """Note what a call of the loop comes to."""
    try:
        result = call(*arguments)
    except Exception as error:
        seen.append((call.__name__, type(error).__name__, plain(error)))
    else:
        seen.append((call.__name__, result))


KINDS = [as_socket, as_reader, as_refusing, as_number]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", [("reader",), ("writer",), ("reader", "writer")])
def test_closed_file_is_forgotten_by_what_named_it(kind, sides):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        file = kind(ours)
        for side in sides:
            attempt(seen, getattr(loop, f"add_{side}"), file, seen.append, side)
        close(file)
        for _ in range(2):
            for side in sides:
                attempt(seen, getattr(loop, f"remove_{side}"), file)
        theirs.close()

    compare(scenario)


def test_closed_socket_is_forgotten_and_its_number_is_free():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        loop.add_reader(ours, seen.append, "called for a closed socket")
        ours.close()
        seen.append(loop.remove_reader(ours))
        again, other = socket.socketpair()
        assert again.fileno() == number
        arrived = loop.create_future()
        loop.add_reader(again, lambda: arrived.done() or arrived.set_result(again.recv(9)))
        other.send(b"new")
        seen.append(await arrived)
        seen.append(loop.remove_reader(again))
        for each in (theirs, again, other):
            each.close()

    assert compare(scenario) == [True, b"new", True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["reader", "writer"])
@pytest.mark.parametrize("second", ["reader", "writer"])
def test_closed_file_is_watched_again(kind, first, second):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        file = kind(ours)
        attempt(seen, getattr(loop, f"add_{first}"), file, seen.append, first)
        close(file)
        attempt(seen, getattr(loop, f"add_{second}"), file, seen.append, second)
        for _ in range(2):
            for side in (first, second):
                attempt(seen, getattr(loop, f"remove_{side}"), file)
        theirs.close()

    compare(scenario)


@pytest.mark.parametrize("first", ["socket", "number"])
def test_file_is_known_by_the_name_that_came_first(first):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        names = [ours, ours.fileno()]
        if first == "number":
            names.reverse()
        loop.add_reader(names[0], print)
        loop.add_writer(names[1], print)
        loop.remove_writer(names[1])
        ours.close()
        for file in names:
            attempt(seen, loop.remove_reader, file)
        theirs.close()

    compare(scenario)


class Odd:
    """Has a number that is no plain one."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        if isinstance(self.number, Exception):
            raise self.number
        return self.number


class Index:
    def __index__(self):
        return 1


WRONG = {
    "closed socket": lambda: Odd(-1),
    "negative": lambda: -5,
    "large": lambda: 1 << 31,
    "larger": lambda: 1 << 70,
    "large and negative": lambda: -(1 << 70),
    "text": lambda: "text",
    "nothing": lambda: None,
    "float": lambda: 1.0,
    "index": Index,
    "number of large": lambda: Odd(1 << 40),
    "number of none": lambda: Odd(None),
    "number of text": lambda: Odd("text"),
    "type error": lambda: Odd(TypeError("type")),
    "value error": lambda: Odd(ValueError("value")),
    "system's error": lambda: Odd(OSError(9, "system")),
    "other error": lambda: Odd(LookupError("lookup")),
    "no descriptor": io.StringIO,
    "unknown number": lambda: 123_456,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_descriptor_ends_in_the_same_error(wrong):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        file = WRONG[wrong]()
        for method in ("add_reader", "add_writer", "_add_reader", "_add_writer"):
            attempt(seen, getattr(loop, method), file, print)
        for method in ("remove_reader", "remove_writer", "_remove_reader", "_remove_writer"):
            attempt(seen, getattr(loop, method), file)

    compare(scenario)


def test_numbers_of_odd_kinds_are_numbers():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for number in (float(ours.fileno()), str(ours.fileno()), Odd(ours.fileno()).fileno()):
            file = Odd(number)
            loop.add_reader(file, print)
            seen.append((loop.remove_reader(ours), loop.remove_reader(file)))
        ours.close()
        theirs.close()

    compare(scenario)


def pair_at(number: int) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, of which the first has a number that was just closed."""
    ours, theirs = socket.socketpair()
    assert ours.fileno() == number
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("added", ["reader", "writer"])
def test_callback_for_a_closed_file_is_not_called_for_the_next(kind, added):
    # Here the standard loop calls no callback, or raises FileNotFoundError once.
    async def main():
        loop = asyncio.get_running_loop()
        settling = Settling()
        seen = []
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        file = kind(ours)
        loop.add_reader(file, seen.append, "reader of the closed one")
        loop.add_writer(file, seen.append, "writer of the closed one")
        close(file)
        again, other = pair_at(number)
        other.send(b"x")
        called = loop.create_future()
        add, remove = getattr(loop, f"add_{added}"), getattr(loop, f"remove_{added}")
        add(again, lambda: (seen.append(added), remove(again), called.set_result(None)))
        await called
        await settling.wait()
        assert seen == [added]
        assert not loop.remove_reader(again)
        assert not loop.remove_writer(again)
        settling.close()
        for each in (theirs, again, other):
            each.close()

    offloop.run(main())


def test_closed_file_is_forgotten_after_another_has_its_number():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        loop.add_reader(ours, pytest.fail, "called for a closed socket")
        ours.close()
        again, other = pair_at(number)
        called = asyncio.Event()
        loop.add_reader(again, called.set)
        # There is nothing left of it, and the other one stays.
        assert not loop.remove_reader(ours)
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_reader(ours)
        other.send(b"x")
        await called.wait()
        assert loop.remove_reader(again)
        for each in (theirs, again, other):
            each.close()

    offloop.run(main())


def test_call_on_a_socket_and_a_stream_take_the_number_of_a_closed_file():
    async def main():
        loop = asyncio.get_running_loop()
        settling = Settling()
        for stream in (False, True):
            ours, theirs = socket.socketpair()
            number = ours.fileno()
            loop.add_reader(ours, pytest.fail, "called for a closed socket")
            loop.add_writer(ours, pytest.fail, "called for a closed socket")
            ours.close()
            again, other = pair_at(number)
            again.setblocking(False)
            if stream:
                reader, writer = await asyncio.open_connection(sock=again)
                receiving = asyncio.ensure_future(reader.read(9))
            else:
                receiving = asyncio.ensure_future(loop.sock_recv(again, 9))
            await settling.wait()
            other.send(b"arrives")
            assert await receiving == b"arrives"
            if stream:
                writer.close()
                await writer.wait_closed()
            again.close()
            theirs.close()
            other.close()
        settling.close()

    offloop.run(main())


def test_closed_socket_that_is_open_elsewhere_does_not_keep_the_loop_busy():
    # The kernel tells of it for ever, by a number that means nothing; the standard loop listens.
    async def main():
        loop = asyncio.get_running_loop()
        settling = Settling()
        ours, theirs = socket.socketpair()
        # As a child has it that was forked meanwhile.
        copy = ours.dup()
        called = asyncio.Event()
        watched, other = socket.socketpair()
        loop.add_reader(ours, pytest.fail, "called for a closed socket")
        loop.add_reader(watched, called.set)
        copy.setblocking(False)
        sock_call = asyncio.ensure_future(loop.sock_recv(copy, 9))
        reader, writer = await asyncio.open_connection(sock=other.dup())
        await settling.wait()
        sock_call.cancel()
        await asyncio.wait([sock_call])
        ours.close()
        assert loop.remove_reader(ours)
        theirs.send(b"data")
        await settling.wait()
        before = loop.statistics().polls
        await asyncio.sleep(0.05)
        # One poll that waits for the timer, and those that the system ends early.
        assert loop.statistics().polls - before < 10
        # Everything else goes on: watched sockets, calls, streams, other threads.
        writer.write(b"x")
        await called.wait()
        loop.remove_reader(watched)
        watched.send(b"line\n")
        assert await reader.readline() == b"line\n"
        assert await loop.sock_recv(copy, 9) == b"data"
        assert await loop.run_in_executor(None, str, 1) == "1"
        writer.close()
        await writer.wait_closed()
        settling.close()
        for each in (theirs, copy, watched, other):
            each.close()

    offloop.run(main())


def test_registration_keeps_its_file_no_longer_than_it_lasts(loop):
    ours, theirs = socket.socketpair()
    before = sys.getrefcount(ours)
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    assert sys.getrefcount(ours) > before
    loop.remove_reader(ours)
    ours.close()
    loop.remove_writer(ours)
    assert sys.getrefcount(ours) == before
    theirs.close()
