"""A protocol's callbacks come one after the other, whatever runs the loop meanwhile.

While a callback is under way the loop may go on: inside of that callback, as programs that nest
loops have it, where the stream goes on as on the standard loop; or in another thread, which leaves
the stream alone until the callback has returned.
"""

import asyncio
import contextlib
import logging
import selectors
import socket
import sys
import threading

import pytest

import offloop

BIG = 8 << 20
"""Far more than a socket's buffers hold."""


class Exclusive(asyncio.Protocol):
    """Notes its callbacks, and that one began while another was under way."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.inside = 0
        self.overlaps = 0

    def enter(self) -> None:
        self.overlaps += self.inside
        self.inside += 1

    def leave(self, what: object) -> None:
        self.inside -= 1
        self.seen.append(what)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.enter()
        self.act(data)
        self.leave(bytes(data))

    def act(self, data):
        """What a test does in the callback."""

    def resume_writing(self):
        self.enter()
        self.leave("resume")

    def eof_received(self):
        self.enter()
        self.leave("eof")


class Held(Exclusive):
    """Is kept in its first callback until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def act(self, data):
        if not self.entered.is_set():
            self.begin()
            self.entered.set()
            assert self.released.wait(30)

    def begin(self):
        """What the first callback does before it is kept."""


class HeldBuffered(Held, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data_received(self.buffer[:nbytes])


class Rounds:
    """A loop in one thread, of which another thread runs rounds."""

    def __init__(self, protocol: Held, *, gather_writes: bool = False) -> None:
        self.protocol = protocol
        self.loop = offloop.new_event_loop(gather_writes=gather_writes)
        ours, self.peer = socket.socketpair()
        self.fd = ours.fileno()
        self.transport, _ = self.loop.run_until_complete(
            self.loop.create_connection(lambda: protocol, sock=ours)
        )
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> "Rounds":
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.protocol.released.set()
        self.finish()
        self.transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        self.peer.close()

    def hold(self) -> None:
        """Send something, and wait until the protocol is kept with it."""
        self.peer.sendall(b"first")
        assert self.protocol.entered.wait(30)

    def round(self) -> None:
        """Run what is ready now, and what a poll finds, in this thread."""
        self.loop.call_soon_threadsafe(int)
        self.loop._run_once()

    def watched(self) -> int:
        """What the connection is watched for."""
        try:
            return self.loop._selector.get_key(self.fd).events
        except KeyError:
            return 0

    def release(self) -> None:
        self.protocol.released.set()

    def run_until(self, condition) -> None:
        """Let the loop's own thread go on until something is so."""
        reached = threading.Event()

        def look():
            if condition():
                reached.set()
            else:
                self.loop.call_soon(look)

        self.loop.call_soon_threadsafe(look)
        assert reached.wait(30)

    def finish(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()


@pytest.mark.parametrize("kind", [Held, HeldBuffered])
def test_another_thread_does_not_feed_a_protocol_that_is_in_a_callback(kind):
    protocol = kind()
    with Rounds(protocol) as rounds:
        rounds.hold()
        rounds.peer.sendall(b"second")
        for _ in range(3):
            rounds.round()
        assert protocol.seen == []
        # It would be found by every poll.
        assert rounds.watched() == 0
        rounds.release()
        rounds.run_until(lambda: len(protocol.seen) == 2)
        assert rounds.watched() == selectors.EVENT_READ
        rounds.peer.sendall(b"third")
        rounds.run_until(lambda: len(protocol.seen) == 3)
    assert protocol.seen == [b"first", b"second", b"third"]
    assert protocol.overlaps == 0


def test_the_end_of_the_stream_is_told_after_the_callback():
    protocol = Held()
    with Rounds(protocol) as rounds:
        rounds.hold()
        rounds.peer.shutdown(socket.SHUT_WR)
        rounds.round()
        rounds.round()
        assert protocol.seen == []
        rounds.release()
        rounds.run_until(lambda: len(protocol.seen) == 2)
    assert protocol.seen == [b"first", "eof"]
    assert protocol.overlaps == 0


class HeldToTheEnd(Held):
    """Notes also that its connection is lost."""

    def connection_lost(self, exc):
        self.enter()
        self.leave("lost")


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_protocol_hears_that_its_connection_is_lost_after_its_callback(end):
    protocol = HeldToTheEnd()
    with Rounds(protocol) as rounds:
        rounds.hold()
        rounds.loop.call_soon_threadsafe(getattr(protocol.transport, end))
        for _ in range(3):
            rounds.round()
        assert protocol.transport.is_closing()
        assert protocol.seen == []
        assert protocol.overlaps == 0
        rounds.release()
        rounds.run_until(lambda: len(protocol.seen) == 2)
    assert protocol.seen == [b"first", "lost"]
    assert protocol.overlaps == 0


def test_a_callback_that_pauses_or_closes_is_obeyed_when_it_has_returned():
    for act in ("pause_reading", "abort"):
        protocol = Held()
        with Rounds(protocol) as rounds:
            rounds.hold()
            rounds.peer.sendall(b"second")
            rounds.round()
            getattr(protocol.transport, act)()
            rounds.release()
            rounds.run_until(lambda protocol=protocol: protocol.seen)
            assert rounds.watched() == 0
            if act == "pause_reading":
                rounds.loop.call_soon_threadsafe(protocol.transport.resume_reading)
                rounds.run_until(lambda protocol=protocol: len(protocol.seen) == 2)
        assert protocol.seen == [b"first", b"second"][: len(protocol.seen)]
        assert len(protocol.seen) == (2 if act == "pause_reading" else 1)


class Writes(Held):
    """Writes more than there is room for before it is kept."""

    def begin(self):
        self.transport.write(bytes(BIG))


def test_another_thread_does_not_tell_a_protocol_that_there_is_room():
    protocol = Writes()
    with Rounds(protocol) as rounds:
        rounds.hold()
        received = bytearray()
        rounds.peer.settimeout(30)
        assert rounds.watched() & selectors.EVENT_WRITE
        received += rounds.peer.recv(1 << 20)
        rounds.round()
        assert not rounds.watched() & selectors.EVENT_WRITE
        assert protocol.seen == []
        rounds.release()
        while len(received) < BIG:
            received += rounds.peer.recv(1 << 20)
        rounds.run_until(lambda: len(protocol.seen) == 2)
    assert protocol.seen == [b"first", "resume"]
    assert protocol.overlaps == 0


class WritesLittle(Held):
    """Writes before it is kept what the end of the round is to send."""

    def begin(self):
        self.transport.write(b"answer")
        # It ends when that is sent.
        self.transport.close()


def test_what_was_gathered_is_sent_after_the_callback():
    protocol = WritesLittle()
    with Rounds(protocol, gather_writes=True) as rounds:
        rounds.hold()
        rounds.round()
        rounds.round()
        assert protocol.transport.get_write_buffer_size() == len(b"answer")
        rounds.release()
        rounds.peer.settimeout(30)
        assert rounds.peer.recv(100) == b"answer"
        assert rounds.peer.recv(100) == b""
    assert protocol.seen == [b"first"]


class Nesting(Exclusive):
    """Runs the loop inside of its first callback, while more has arrived."""

    def __init__(self, loop, peer: socket.socket) -> None:
        super().__init__()
        self.loop = loop
        self.peer = peer

    def act(self, data):
        if data == b"first":
            self.peer.sendall(b"second")
            for _ in range(3):
                self.loop.call_soon(int)
                self.loop._run_once()
            self.seen.append("the loop ran")


@pytest.fixture
def quiet(caplog):
    """The log of asyncio, which tells what a callback raised, is not shown."""
    caplog.set_level(logging.CRITICAL, logger="asyncio")


@pytest.mark.usefixtures("quiet")
def test_a_loop_inside_of_a_callback_meets_its_context_as_the_standard_one_does(loop):
    """Data of that stream is not lost: it comes when the context can be entered again."""
    ours, peer = socket.socketpair()
    with peer:
        protocol = Nesting(loop, peer)
        connection = loop.create_connection(lambda: protocol, sock=ours)
        transport, _ = loop.run_until_complete(connection)
        peer.sendall(b"first")
        while len(protocol.seen) < 3:
            loop.run_until_complete(asyncio.sleep(0))
        peer.sendall(b"third")
        while len(protocol.seen) < 4:
            loop.run_until_complete(asyncio.sleep(0))
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
    assert protocol.seen == ["the loop ran", b"first", b"second", b"third"]
    assert protocol.overlaps == 0


class Interrupting(Exclusive):
    """Ends the run from inside its first callback."""

    def act(self, data):
        if data == b"first":
            raise KeyboardInterrupt


def test_a_callback_that_ends_the_run_is_over_for_another_thread(loop):
    ours, peer = socket.socketpair()
    with peer:
        protocol = Interrupting()
        connection = loop.create_connection(lambda: protocol, sock=ours)
        transport, _ = loop.run_until_complete(connection)
        peer.sendall(b"first")
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        peer.sendall(b"second")

        def elsewhere():
            while not protocol.seen:
                loop.run_until_complete(asyncio.sleep(0))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(asyncio.sleep(0))
    assert protocol.seen == [b"second"]


def test_an_idle_stream_takes_no_more_memory_for_it():
    ours, peer = socket.socketpair()
    with contextlib.closing(offloop.new_event_loop()) as loop, peer:
        connection = loop.create_connection(asyncio.Protocol, sock=ours)
        transport, _ = loop.run_until_complete(connection)
        # With what the collector keeps in front of it.
        assert sys.getsizeof(transport._native) <= 208 + 16
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
