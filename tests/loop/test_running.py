"""The callback that runs now, as a watch in another thread sees it."""

import asyncio
import contextlib
import socket
import threading

import pytest

import offloop
from gates import PATIENCE_SECONDS

pytestmark = pytest.mark.quick


def look_during_a_callback(loop, wrap=lambda callback: callback):
    """What another thread sees, twice, while the third callback of a loop runs."""
    begun, looked = threading.Event(), threading.Event()
    seen = []

    def look():
        if begun.wait(PATIENCE_SECONDS):
            seen.extend(loop._running_callback() for _ in range(2))
        looked.set()

    def slow():
        begun.set()
        looked.wait(PATIENCE_SECONDS)

    slow = wrap(slow)
    thread = threading.Thread(target=look)
    thread.start()
    for callback in (int, int, slow, loop.stop):
        loop.call_soon(callback)
    loop.run_forever()
    thread.join()
    return slow, seen


@pytest.mark.parametrize("debug", [False, True])
def test_thread_sees_which_callback_runs_and_for_how_long(our_loop, debug):
    our_loop.set_debug(debug)
    our_loop.slow_callback_duration = PATIENCE_SECONDS
    our_loop._arm_watch()
    slow, [(number, seconds, called), again] = look_during_a_callback(our_loop)
    assert (number, called) == (3, slow)
    assert 0 <= seconds < PATIENCE_SECONDS
    assert again[0] == 3
    assert our_loop._running_callback() is None


def test_numbers_go_on_over_runs_and_nothing_is_seen_of_an_unarmed_loop(our_loop):
    assert look_during_a_callback(our_loop)[1] == [None, None]
    our_loop._arm_watch()
    numbers = [look_during_a_callback(our_loop)[1][0][0] for _ in range(2)]
    assert numbers == [3, 7]
    our_loop._arm_watch(False)
    assert look_during_a_callback(our_loop)[1] == [None, None]


def test_callback_that_is_seen_stays_alive_when_its_handle_is_cancelled(our_loop):
    handles = []

    def cancel_itself(callback):
        class Callback:
            def __call__(self):
                handles.pop().cancel()
                callback()

        return Callback()

    our_loop._arm_watch()
    call_soon = our_loop.call_soon
    begun, looked = threading.Event(), threading.Event()
    seen = []

    def look():
        if begun.wait(PATIENCE_SECONDS):
            seen.append(our_loop._running_callback())
        looked.set()

    def slow():
        begun.set()
        looked.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=look)
    thread.start()
    handles.append(call_soon(cancel_itself(slow)))
    call_soon(our_loop.stop)
    our_loop.run_forever()
    thread.join()
    [(number, _, called)] = seen
    assert number == 1
    assert type(called).__name__ == "Callback"


def seen_from_another_thread(loop):
    """What a thread sees that looks while the caller waits for it."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(loop._running_callback()))
    thread.start()
    thread.join()
    return seen[0]


def test_outer_callback_is_seen_again_when_a_run_inside_it_is_over(our_loop):
    seen = []

    def inner():
        seen.append(seen_from_another_thread(our_loop))

    def outer():
        inner()
        our_loop.call_soon(inner)
        our_loop._run_once()
        inner()
        our_loop.stop()

    our_loop._arm_watch()
    our_loop.call_soon(outer)
    our_loop.run_forever()
    assert [(number, called) for number, _, called in seen] == [(1, outer), (2, inner), (1, outer)]
    assert our_loop._running_callback() is None


def test_protocol_is_seen_that_is_called_while_what_was_gathered_is_sent():
    """It may take as long as any callback."""
    seen = []

    class Protocol(asyncio.Protocol):
        def connection_lost(self, error):
            seen.append(seen_from_another_thread(loop))

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            transport, _ = await loop.create_connection(Protocol, sock=ours)
            transport.write(b"x")
            transport.close()
            # The end of the round sends the byte, and then the connection is over.
            assert not seen
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with contextlib.closing(offloop.new_event_loop(gather_writes=True)) as loop:
        loop._arm_watch()
        loop.run_until_complete(main())
    [(_, _, called)] = seen
    assert type(called).__name__ == "Stream"


def test_second_thread_goes_on_with_the_round_while_a_callback_holds_the_first(our_loop):
    seen = []

    def note(name):
        seen.append((name, threading.current_thread().name))

    def hold():
        thread = threading.Thread(target=our_loop._run_once, name="second")
        thread.start()
        thread.join()
        note("held")

    our_loop.call_soon(hold)
    for name in "ab":
        our_loop.call_soon(note, name)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    main = threading.current_thread().name
    assert seen == [("a", "second"), ("b", "second"), ("held", main)]
    # Nothing is left of the other run.
    our_loop.call_soon(note, "c")
    our_loop._run_once()
    assert seen[-1] == ("c", main)


def test_loop_comes_back_to_the_first_thread_at_the_next_boundary(our_loop):
    """Its callback has returned while a callback is under way on the second thread."""
    seen, threads = [], []
    second_is_in, first_is_back = threading.Event(), threading.Event()

    def note(name):
        seen.append((name, threading.current_thread().name))

    class Hold:
        """A callback; its handle lets go of it as it returns."""

        def __call__(self):
            threads.append(threading.Thread(target=our_loop._run_once, name="second"))
            threads[0].start()
            assert second_is_in.wait(PATIENCE_SECONDS)
            note("held")

        def __del__(self):
            first_is_back.set()

    def under_way():
        second_is_in.set()
        assert first_is_back.wait(PATIENCE_SECONDS)
        note("under way")

    our_loop._arm_watch()
    our_loop.call_soon(Hold())
    our_loop.call_soon(under_way)
    for name in "ab":
        our_loop.call_soon(note, name)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    threads[0].join()
    main = threading.current_thread().name
    expected = [("held", main), ("under way", "second"), ("a", main), ("b", main)]
    assert seen == expected
    assert our_loop._running_callback() is None


def test_round_on_a_second_thread_is_refused_while_the_first_waits(our_loop):
    """No callback is under way that it could relieve."""
    raised = []
    now = our_loop.time

    def other():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            our_loop._run_once()
        raised.append(True)

    def clock():
        # The loop asks for the time between two rounds.
        if not raised:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        return now()

    our_loop.call_later(0, our_loop.stop)
    our_loop.time = clock
    our_loop.run_forever()
    assert raised == [True]
