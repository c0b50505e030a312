"""What the recorder has of a program's loops, calls, threads, garbage and workers."""

import asyncio
import gc
import os
import time

import pytest

import offloop
from _offloop_worker import _offloop
from calls import exit_at_once
from offloop._recording import tell_collections

pytestmark = pytest.mark.quick


def keep_busy(seconds):
    """Run for so long, and let no other code of the loop run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_nothing_is_recorded_unless_asked_for():
    assert not _offloop.is_recording()
    recording = _offloop.Recording()
    assert _offloop.is_recording()
    del recording
    assert not _offloop.is_recording()


@pytest.mark.parametrize("factory", [offloop.EventLoop, asyncio.SelectorEventLoop])
def test_what_blocks_a_loop_is_a_slice_and_its_load_is_told(factory):
    recording = _offloop.Recording()

    async def stuck():
        await asyncio.sleep(0)
        keep_busy(0.08)
        await asyncio.sleep(0.06)
        keep_busy(0.02)

    offloop.watch(0.02)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0.06))
            runner.run(stuck())
    finally:
        offloop.watch.stop()
    _, records, _ = recording.after(0)
    kinds = [kind for kind, _ in records]
    assert "load" in kinds
    slices = [name for kind, name in records if kind == "slice"]
    own = factory is offloop.EventLoop
    expected = f"{stuck.__qualname__}" if own else None
    assert slices.count(expected) >= 2
    assert "event" in kinds, "the stall"


def test_a_call_is_recorded_with_its_name_and_its_workers_ends():
    recording = _offloop.Recording()
    with offloop.ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        with pytest.raises(offloop.WorkerCrashed):
            pool.submit(exit_at_once).result()
    _, records, last = recording.after(0)
    calls = [name for kind, name in records if kind == "call"]
    assert calls == ["builtins.abs", "calls.exit_at_once"]
    assert [kind for kind, _ in records].count("event") >= 2, "start, crash"
    assert recording.after(last) == (0, [], last)


def test_a_call_that_never_ran_is_recorded_too():
    recording = _offloop.Recording()
    with offloop.ProcessPool(1, max_queue=1, queue_policy="drop_oldest") as pool:
        futures = [pool.submit(time.sleep, 0.01) for _ in range(40)]
    ends = [type(each.exception()) for each in futures]
    assert len(set(ends)) == 2, "a value, and dropped"
    _, records, _ = recording.after(0)
    assert [name for kind, name in records if kind == "call"] == ["time.sleep"] * 40


def test_collections_of_the_oldest_generation_are_recorded():
    tell_collections()
    recording = _offloop.Recording()
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(_offloop.note_collection)
    _, records, _ = recording.after(0)
    assert ("collection", None) in records


def test_a_call_on_a_thread_is_recorded_while_anything_records():
    now = time.monotonic()
    _offloop.note_thread_call("before", 1, now, now, now, False)
    recording = _offloop.Recording()
    _offloop.note_thread_call("work", 1, now, now, now, False)
    _, records, _ = recording.after(0)
    assert records == [("thread_call", "work")]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_records_nothing_of_its_parent():
    recording = _offloop.Recording()
    pid = os.fork()
    if pid == 0:
        is_clean = not _offloop.is_recording()
        with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
            runner.run(asyncio.sleep(0.01))
        os._exit(0 if is_clean else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert _offloop.is_recording()
    del recording
