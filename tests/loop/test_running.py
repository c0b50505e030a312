"""The callback that runs now, as a watch in another thread sees it."""

import threading

import pytest

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
