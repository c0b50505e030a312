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


def test_round_on_another_thread_is_refused_while_the_loop_runs(our_loop):
    """It would run callbacks on two threads at once."""
    raised = []

    def other():
        try:
            our_loop._run_once()
        except RuntimeError as error:
            raised.append(str(error))

    def callback():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        our_loop.stop()

    our_loop.call_soon(callback)
    our_loop.run_forever()
    assert raised == ["This event loop is already running"]
    # It is over for the other thread: rounds go on here.
    our_loop.call_soon(raised.clear)
    our_loop._run_once()
    assert not raised
