"""The limit on how many stalls are told hides no culprit that was never told."""

import threading

from heard import THRESHOLD_SECONDS, Heard

import offloop
from gates import PATIENCE_SECONDS


def blocked_by(loop, callback):
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_culprit_that_was_never_told_is_told_beyond_the_limit(our_loop):
    heard = Heard()
    told = threading.Event()

    def worse():
        told.wait(PATIENCE_SECONDS)

    def hears(stall):
        heard(stall)
        if worse.__qualname__ in [entry.function for entry in stall.stack]:
            told.set()

    with offloop.watch(THRESHOLD_SECONDS, hears, words=False, stalls_per_minute=1):
        blocked_by(our_loop, heard.wait_found)
        heard.wait_over()
        blocked_by(our_loop, worse)
        found, *_, over = heard.all_of(worse.__qualname__)
    assert (found.duration, found.culprit.function) == (None, worse.__qualname__)
    assert over.duration < PATIENCE_SECONDS, "it was told while it lasted"
