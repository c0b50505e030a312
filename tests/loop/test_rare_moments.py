"""Moments that few programs ever meet, and that no program may pay for.

Each of these has once crashed, hung, leaked or lost something.
"""

import asyncio
import contextvars
import ctypes
import gc
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

from gates import open_descriptors

VARIABLE = contextvars.ContextVar("variable", default="unset")


def class_of(make_loop):
    """Return the class of the loops that a factory makes."""
    loop = make_loop()
    loop.close()
    return type(loop)


def run_script(text, *arguments):
    """Run a program of its own, which may die; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


def test_callback_that_cancels_its_own_handle_by_a_weak_reference_keeps_what_it_has(loop):
    class Owner:
        def callback(self, argument):
            handle = reference()
            if handle is not None:
                handle.cancel()
            called.append(argument)

    owner, called = Owner(), []
    before = sys.getrefcount(owner)
    for number in range(3):
        reference = weakref.ref(loop.call_soon(owner.callback, number))
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert called == [0, 1, 2]
    assert sys.getrefcount(owner) == before


def test_value_of_a_context_that_pauses_reading_as_it_goes(run):
    class Pausing:
        def __init__(self, transport):
            self.transport = transport

        def __del__(self):
            self.transport.pause_reading()
            self.transport.resume_reading()
            self.kept = [contextvars.Context() for _ in range(3)]

    class Receiver(asyncio.Protocol):
        def __init__(self):
            self.got = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.got.set_result(data)

    async def main():
        loop = asyncio.get_running_loop()
        other = contextvars.ContextVar("other")
        ours, theirs = socket.socketpair()
        with theirs:
            transport, receiver = await loop.create_connection(Receiver, sock=ours)

            def send():
                theirs.send(b"packet")
                loop.call_soon(lambda: other.set(Pausing(transport)))
                # Time enough for the loop to poll again: the packet follows the callback.
                until = time.perf_counter() + 0.002
                while time.perf_counter() < until:
                    pass

            await asyncio.sleep(0)
            loop.call_soon(send)
            assert await asyncio.wait_for(receiver.got, 30) == b"packet"
            transport.abort()

    run(main())


def test_great_number_that_is_no_descriptor_is_refused_and_takes_no_memory(loop):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(2**31 - 1, print)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("ends", ["cancelled", "run", "left in a closed loop"])
def test_handle_that_the_program_keeps_is_collected_with_its_context(make_loop, ends):
    class Request:
        def __init__(self, loop):
            VARIABLE.set(self)
            delay = 0 if ends == "run" else 30
            self.timer = loop.call_later(delay, str)

    async def handle():
        request = Request(asyncio.get_running_loop())
        await asyncio.sleep(0.001)
        if ends == "cancelled":
            request.timer.cancel()
        return weakref.ref(request)

    async def main():
        return [await asyncio.create_task(handle()) for _ in range(5)]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        references = runner.run(main())
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


def test_loop_that_leads_back_to_itself_by_a_handle_is_collected(make_loop):
    class Application:
        def on_error(self, loop, about):
            """Never called."""

        async def main(self):
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(self.on_error)
            self.timer = loop.call_later(30, print)
            self.timer.cancel()
            return weakref.ref(loop)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        reference = runner.run(Application().main())
    del runner
    gc.collect()
    assert reference() is None


def test_closed_loop_holds_no_descriptor(make_loop):
    before = open_descriptors()
    loops = [make_loop() for _ in range(3)]
    assert open_descriptors() > before
    for loop in loops:
        loop.close()
    assert open_descriptors() == before


def test_callback_scheduled_while_the_loop_looks_at_its_clock_is_not_slept_over(make_loop):
    class Watched(class_of(make_loop)):
        def time(self):
            if looks.is_set() and threading.get_ident() == thread:
                looking.set()
                scheduled.wait(30)
            return super().time()

    def schedule():
        assert looking.wait(30)
        looks.clear()
        loop.call_soon_threadsafe(loop.stop)
        scheduled.set()

    looks, looking, scheduled = (threading.Event() for _ in range(3))
    thread = threading.get_ident()
    loop = Watched()
    late = loop.call_later(20, pytest.fail, "slept over")
    other = threading.Thread(target=schedule)
    other.start()
    looks.set()
    loop.run_forever()
    other.join(30)
    late.cancel()
    loop.close()


@pytest.mark.parametrize("text", ["float('nan')", "float('inf') - float('inf')"])
def test_time_that_is_no_number_stops_neither_other_timers_nor_other_threads(text):
    # The standard loop cannot wait any more once it has such a timer.
    printed = run_script(
        """
        import offloop, sys, threading, time
        loop = offloop.EventLoop()
        loop.call_later(eval(sys.argv[1]), print, "never")
        loop.call_later(0.001, print, "timer")
        def other():
            print("thread")
            loop.call_soon_threadsafe(loop.stop)
        loop.call_later(0.002, threading.Thread(target=other).start)
        loop.run_forever()
        loop.close()
        assert time.process_time() < 20
        """,
        text,
    )
    assert printed.split() == ["timer", "thread"]


def test_nothing_is_written_to_a_socket_that_took_the_number_of_a_closed_one(run):
    async def main():
        loop = asyncio.get_running_loop()
        lost = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        loop.set_exception_handler(lambda loop, about: None)
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        number = ours.fileno()
        ours.close()
        near, far = socket.socketpair()
        with theirs, near, far:
            assert near.fileno() == number
            far.setblocking(False)
            transport.write(b"secret")
            assert isinstance(await asyncio.wait_for(lost, 30), OSError)
            with pytest.raises(BlockingIOError):
                far.recv(100)

    run(main())


def test_what_is_written_while_the_loop_does_not_run_is_sent(loop):
    ours, theirs = socket.socketpair()
    connecting = loop.create_connection(asyncio.Protocol, sock=ours)
    transport, _ = loop.run_until_complete(connecting)
    with theirs:
        transport.write(b"good")
        transport.write(b"bye")
        theirs.setblocking(False)
        assert theirs.recv(100) == b"goodbye"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("factory", ["asyncio.SelectorEventLoop", "offloop.EventLoop"])
def test_forked_child_sends_nothing_of_its_parents(factory):
    printed = run_script(
        f"""
        import asyncio, offloop, os, socket, sys, warnings
        warnings.simplefilter("ignore")
        ours, theirs = socket.socketpair()
        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            def write_and_fork():
                transport.write(b"hello;")
                child = os.fork()
                if child == 0:
                    # Not from a task, which Python 3.14 does not let end in a child.
                    sys.exit(0)
                os.waitpid(child, 0)
            loop.call_soon(write_and_fork)
            await asyncio.sleep(0)
            transport.close()
            await asyncio.sleep(0)
        with asyncio.Runner(loop_factory={factory}) as runner:
            runner.run(main())
        ours.close()
        print(theirs.recv(100).decode(), theirs.recv(100))
        """
    )
    assert printed == "hello; b''\n"


@pytest.mark.parametrize("factory", ["asyncio.SelectorEventLoop", "offloop.EventLoop"])
def test_forked_child_sends_what_is_its_own(factory):
    printed = run_script(
        f"""
        import asyncio, offloop, os, socket, warnings
        warnings.simplefilter("ignore")
        ours, theirs = socket.socketpair()
        before = {factory}()
        async def connect():
            return await before.create_connection(asyncio.Protocol, sock=ours)
        if os.fork() == 0:
            # A loop that was made before the fork.
            transport, _ = before.run_until_complete(connect())
            before.call_soon(transport.write, b"child;")
            before.call_soon(before.stop)
            before.run_forever()
            os._exit(0)
        os.wait()
        print(theirs.recv(100).decode())
        transport, _ = before.run_until_complete(connect())
        def fork_and_write():
            transport.write(b"parent;")
            if os.fork() == 0:
                transport.write(b"grown;")
                before.stop()
            else:
                os.wait()
                before.stop()
        parent = os.getpid()
        before.call_soon(fork_and_write)
        before.run_forever()
        if os.getpid() != parent:
            os._exit(0)
        print(*sorted(theirs.recv(100).decode().split(";")))
        """
    )
    assert printed.split() == ["child;", "grown", "parent"]


def test_exception_handler_sees_what_the_callback_has_set(loop):
    seen = []
    loop.set_exception_handler(lambda loop, about: seen.append(VARIABLE.get()))

    def fail(value):
        VARIABLE.set(value)
        raise ValueError

    for value in ("one", "two"):
        loop.call_soon(fail, value)
    loop.call_soon(loop.stop)
    loop.run_forever()
    # From Python 3.12 on the handler runs in the context of the callback.
    assert seen == (["one", "two"] if sys.version_info >= (3, 12) else ["unset", "unset"])


def test_signal_that_comes_before_the_loop_sleeps_is_handled_first(our_loop):
    # The standard loop sleeps over those that come while it makes up its mind.
    class Stop(Exception):
        """Raised by the handler."""

    def handle(*_):
        raise Stop

    before = signal.signal(signal.SIGUSR1, handle)
    late = our_loop.call_later(20, pytest.fail, "slept over")
    try:
        # Called from Rust: no Python code runs after it that would handle the signal.
        our_loop.call_soon(ctypes.CDLL(None)["raise"], signal.SIGUSR1.value)
        with pytest.raises(Stop):
            our_loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
        late.cancel()


def test_one_side_of_a_number_that_means_another_file_is_forgotten_with_the_other(run):
    called = []

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        loop.add_reader(number, called.append, "old")
        loop.add_writer(number, lambda: None)
        ours.close()
        near, far = socket.socketpair()
        with theirs, near, far:
            assert near.fileno() == number
            with pytest.raises(FileNotFoundError):
                loop.remove_writer(number)
            far.send(b"for somebody else")
            await asyncio.sleep(0.001)
            assert not loop.remove_reader(number)

    run(main())
    assert called == []


def test_exception_that_ended_the_run_is_not_replaced_by_one_of_the_last_sending(loop):
    class Protocol(asyncio.Protocol):
        def resume_writing(self):
            raise KeyboardInterrupt

    async def main():
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        transports.append((transport, theirs))
        transport.set_write_buffer_limits(0)
        transport.write(b"x")
        raise SystemExit(7)

    transports = []
    with pytest.raises(SystemExit, match="7"):
        loop.run_until_complete(main())
    for transport, theirs in transports:
        transport.abort()
        theirs.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_low_limit_pauses_no_protocol_whose_bytes_fit_into_the_kernel(run):
    paused = []

    class Protocol(asyncio.Protocol):
        def pause_writing(self):
            paused.append("pause")

        def resume_writing(self):
            paused.append("resume")

    async def main():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        with theirs:
            transport.set_write_buffer_limits(0)
            transport.write(b"x")
            await asyncio.sleep(0)
            for limit in (1e6, 2**70):
                transport.set_write_buffer_limits(limit)
                low, high = transport.get_write_buffer_limits()
                assert 0 < low <= high <= limit
            transport.abort()

    run(main())
    assert paused == []


def test_call_later_calls_the_call_at_of_a_subclass(make_loop):
    class Counting(class_of(make_loop)):
        def call_at(self, when, callback, *args, context=None):
            called.append((callback, args))
            return super().call_at(when, callback, *args, context=context)

    called = []
    loop = Counting()
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "of the caller")
    seen = []
    loop.call_later(0, lambda: seen.append(VARIABLE.get()), context=context)
    loop.call_later(0, seen.append, "argument")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    with pytest.raises(TypeError, match="callback"):
        loop.call_later(1)
    loop.close()
    assert sorted(seen) == ["argument", "of the caller"]
    assert len(called) == 3
