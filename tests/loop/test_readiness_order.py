"""What has become readable is delivered before what a chain of callbacks schedules after that.

A loop that leaves polls out while callbacks are ready could tell the difference by nothing else.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque

import pytest

from compared import compare

SETTLED = 1000
"""Callbacks in a row, after which our loop begins to leave polls out."""


def pipe():
    """Make the reading end of a pipe readable."""
    reading, writing = os.pipe()
    return reading, lambda: os.write(writing, b"x"), lambda: os.read(reading, 1)


def counter():
    """Make an event counter readable: the shortest call that does such a thing."""
    fd = os.eventfd(0)
    return fd, lambda: os.eventfd_write(fd, 1), lambda: os.eventfd_read(fd)


def pair():
    """Make a socket readable."""
    ours, theirs = socket.socketpair()
    return ours, lambda: theirs.send(b"x"), lambda: ours.recv(1)


def ended():
    """Make a socket readable by the end of its peer, which takes a new one each time."""
    loop = asyncio.get_running_loop()
    watched = deque()

    class Ended:
        def make(self):
            ours, theirs = socket.socketpair()
            watched.append(theirs)
            loop.add_reader(ours, self.end, ours)

        def end(self, ours):
            loop.remove_reader(ours)
            ours.close()
            self.make()
            self.note()

    ended = Ended()
    ended.make()
    return ended, lambda: watched.popleft().close(), lambda: None


@pytest.mark.parametrize("make", [pipe, counter, pair, ended])
@pytest.mark.parametrize("before", [0, 1, 20, SETTLED])
def test_data_comes_before_what_the_callback_after_schedules(make, before):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        watched, trigger, drain = make()
        done = loop.create_future()

        def arrived():
            drain()
            seen.append("data")

        def chain(count):
            if count:
                loop.call_soon(chain, count - 1)
            else:
                trigger()
                seen.append("triggered")
                loop.call_soon(first)

        def first():
            seen.append("first")
            loop.call_soon(second)

        def second():
            seen.append("second")
            loop.call_soon(done.set_result, None)

        if make is ended:
            watched.note = arrived
        else:
            loop.add_reader(watched, arrived)
        for _ in range(50):
            done = loop.create_future()
            chain(before)
            await done
            seen.append("round")

    assert compare(scenario)[:4] == ["triggered", "first", "data", "second"]


class Noting(asyncio.Protocol):
    """Writes down what is called."""

    def __init__(self, seen, name, lost):
        self.seen, self.name, self.lost = seen, name, lost

    def data_received(self, data):
        self.seen.append((self.name, data))

    def eof_received(self):
        self.seen.append((self.name, "eof"))

    def connection_lost(self, error):
        self.seen.append((self.name, "lost", error))
        if not self.lost.done():
            self.lost.set_result(None)


def test_data_of_a_stream_comes_before_the_end_of_a_pipe():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        reading, writing = os.pipe()
        read_end, write_end = os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)
        await loop.connect_read_pipe(lambda: Noting(seen, "pipe", lost), read_end)
        ours, theirs = socket.socketpair()
        over = loop.create_future()
        make = lambda: Noting(seen, "stream", over)  # noqa: E731
        stream, _ = await loop.create_connection(make, sock=ours)
        for _ in range(SETTLED):
            await asyncio.sleep(0)
        write_end.close()
        theirs.send(b"first")
        await lost
        stream.abort()
        await over
        theirs.close()

    seen = compare(scenario)
    assert seen.index(("stream", b"first")) < seen.index(("pipe", "lost", None))


def test_output_of_a_child_comes_before_what_is_scheduled_when_it_was_waited_for():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        loop.add_reader(reading, lambda: seen.append(os.read(reading, 100)))
        for _ in range(SETTLED):
            await asyncio.sleep(0)
        subprocess.run([sys.executable, "-c", "print('output')"], stdout=writing, check=True)
        for number in range(3):
            await asyncio.sleep(0)
            seen.append(number)
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    assert compare(scenario) == [0, b"output\n", 1, 2]


def test_all_that_is_ready_is_called_in_one_round():
    many = 400

    async def scenario(seen):
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        called = []

        def arrived(fd):
            if not called:
                loop.call_soon(after)
            called.append(fd)
            loop.remove_reader(fd)
            os.close(fd)

        def after():
            seen.append(called == watched)
            done.set_result(None)

        watched = [os.eventfd(1) for _ in range(many)]
        for fd in watched:
            loop.add_reader(fd, arrived, fd)
        await done

    assert compare(scenario) == [True]
