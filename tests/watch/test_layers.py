"""Blocks of the watch inside each other: at its end each puts back what was on before it."""

import os
import threading
import time
from pathlib import Path

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def off():
    """The watch is off before each test and after it."""
    offloop.watch.stop()
    yield
    assert all_ended()


def watch_threads():
    """The watch's threads that the system shows."""
    return [name for name in map(name_of, os.listdir("/proc/self/task")) if "offloop-w" in name]


def name_of(thread):
    try:
        return Path(f"/proc/self/task/{thread}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "(ended since)"


def all_ended():
    """Whether the watch's threads have ended. The system shows one for a moment after its end."""
    until = time.monotonic() + 20
    while watch_threads() and time.monotonic() < until:
        time.sleep(0.001)
    return not watch_threads()


def block(loop, heard):
    """Block the loop until this is heard; what else watches would hear of it too."""
    found = len(heard.found())
    loop.call_soon(heard.wait_found, found + 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    heard.wait_over(found + 1)


def watched(heard):
    return offloop.watch(THRESHOLD_SECONDS, heard, words=False)


def test_block_puts_back_what_was_on_before_to_any_depth(our_loop):
    outer, middle, inner = Heard(), Heard(), Heard()
    before = offloop.watch.statistics().stalls
    with watched(outer):
        with watched(middle):
            with watched(inner):
                block(our_loop, inner)
            block(our_loop, middle)
        block(our_loop, outer)
    assert [len(heard.over()) for heard in (outer, middle, inner)] == [1, 1, 1]
    assert offloop.watch.statistics().stalls == before + 3
    assert all_ended()


def test_blocks_that_end_out_of_order_leave_the_latest_one_on(our_loop):
    outer, inner = Heard(), Heard()
    first = watched(outer)
    first.__enter__()
    second = watched(inner)
    second.__enter__()
    first.__exit__(None, None, None)
    block(our_loop, inner)
    assert watch_threads()
    second.__exit__(None, None, None)
    assert all_ended()
    assert (len(outer.over()), len(inner.over())) == (0, 1)


def test_call_changes_what_is_on_and_a_block_puts_the_change_back(our_loop):
    plain, changed, inner = Heard(), Heard(), Heard()
    watched(plain)
    watched(changed)
    with watched(inner):
        pass
    block(our_loop, changed)
    offloop.watch.stop()
    assert (plain.stalls, inner.stalls, len(changed.over())) == ([], [], 1)


def test_call_inside_a_block_lasts_as_long_as_the_block(our_loop):
    outer, changed = Heard(), Heard()
    with watched(outer):
        watched(changed)
        block(our_loop, changed)
    assert all_ended()
    assert outer.stalls == []


def test_watching_may_be_entered_again_and_stopped_by_its_own_method(our_loop):
    heard = Heard()
    watching = watched(heard)
    with watching, watching:
        block(our_loop, heard)
    assert all_ended()
    with watching:
        block(our_loop, heard)
        watching.stop()
        assert all_ended()
    other = watched(heard)
    assert other.statistics() == offloop.watch.statistics()
    assert other.losses() == offloop.watch.losses()
    other.stop()
    other.stop()


def test_stop_ends_all_blocks(our_loop):
    heard = Heard()
    with watched(Heard()), watched(Heard()):
        offloop.watch.stop()
        assert all_ended()
        watched(heard)
    block(our_loop, heard)
    offloop.watch.stop()


def test_block_that_is_refused_leaves_the_watch_on(our_loop, monkeypatch):
    heard = Heard()
    with watched(heard):
        refused = threading.Event()
        turn_on = offloop.watch._turn_on

        def refuse(*arguments):
            if not refused.is_set():
                refused.set()
                raise OSError("both signals are handled")
            turn_on(*arguments)

        monkeypatch.setattr(offloop.watch, "_turn_on", refuse)
        with pytest.raises(OSError, match="both signals"):
            watched(Heard())
        block(our_loop, heard)


def test_losses_are_told_to_the_block_that_is_on():
    outer, inner = [], []
    with offloop.watch(on_loss=outer.append, words=False):
        with offloop.watch(on_loss=inner.append, words=False, losses=False):
            lose_a_coroutine()
        lose_a_coroutine()
    assert (len(outer), inner) == (1, [])


def lose_a_coroutine():
    async def lost():
        """Do nothing."""

    with pytest.warns(RuntimeWarning, match="never awaited"):
        lost()


STRICT = """
    import asyncio, time
    import offloop

    async def main():
        with offloop.watch(5.0, words=False):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.3)

    asyncio.run(main())
"""


def test_block_inside_a_strict_run_hides_nothing_that_comes_after_it(run_source):
    ended = run_source(STRICT, options=("--strict", "--no-report"))
    assert ended.returncode == 3
    assert "app.py:9 in main" in ended.stderr


CHILD = """
    import asyncio, multiprocessing, time
    import offloop

    async def block():
        time.sleep(0.3)

    def work():
        with offloop.watch(0.1, words=False):
            asyncio.run(block())

    if __name__ == "__main__":
        child = multiprocessing.get_context("spawn").Process(target=work)
        child.start()
        child.join()
"""


def test_strict_run_hears_of_children_that_watch_in_their_own_way(run_source):
    ended = run_source(CHILD, options=("--strict", "--no-report"))
    assert ended.returncode == 3, ended.stderr
