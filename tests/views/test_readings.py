"""What the views ask the interpreter: the right tasks, and never much of the GIL at a time."""

import asyncio
import gc
import multiprocessing
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager

import pytest

from offloop._views.reading import LISTED_MAX, TASKS_MAX, Reading

SLICE_SECONDS_MAX = 0.004


@asynccontextmanager
async def waiting(count):
    """So many tasks that wait for ever."""
    made = [asyncio.create_task(asyncio.Event().wait(), name=f"w{n}") for n in range(count)]
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        for task in made:
            task.cancel()
        await asyncio.wait(made)


def read():
    """Tasks, the rest, and how long the longest slice took of the processor."""
    found, longest = [], 0.0
    begin = time.thread_time()
    for told, rest in Reading().slices():
        longest = max(longest, time.thread_time() - begin)
        found += told
        begin = time.thread_time()
        if rest is not None:
            return found, rest, longest
    raise AssertionError("there was no last slice")


def readings_of(count, times=1):
    """What is read while so many tasks wait, in this process."""

    async def main():
        async with waiting(count):
            gc.collect()
            # What the collector looks at is not what is measured.
            gc.disable()
            return [read() for _ in range(times)]

    try:
        return asyncio.run(main())
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def process():
    """A process in which no test has left a task."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_a_few_tasks_are_told_by_their_names_and_the_running_one_first(process):
    [(found, rest, _)] = process.submit(readings_of, TASKS_MAX + 50).result()
    assert rest["total"] == TASKS_MAX + 51
    assert [task["state"] for task in found[:2]] == ["running", "waiting"]
    names = [task["name"] for task in found[1:]]
    assert names == [f"w{number}" for number in range(TASKS_MAX - 1)]


@pytest.mark.parametrize("count", [LISTED_MAX // 2, 30_000])
def test_many_tasks_are_counted_and_some_of_them_read_in_short_slices(process, count):
    readings = process.submit(readings_of, count, times=5).result()
    for found, rest, _ in readings:
        assert (rest["total"], len(found)) == (count + 1, TASKS_MAX)
        assert found[0]["state"] == "running"
        assert len({task["id"] for task in found}) == TASKS_MAX
    # One of them was not interrupted.
    assert min(longest for *_, longest in readings) < SLICE_SECONDS_MAX


def test_no_task_is_kept_between_two_slices():
    async def main():
        async with waiting(1000) as made:
            kept = [weakref.ref(task) for task in made]
            slices = Reading().slices()
            next(slices)
        made.clear()
        del made
        await asyncio.sleep(0)
        alive = [reference() for reference in kept]
        assert alive == [None] * len(kept)
        *_, (_, rest) = slices
        return rest["total"]

    # Those that were looked at before are counted; none is told.
    assert asyncio.run(main()) > 0


def test_a_task_is_cancelled_by_its_id_and_name():
    async def main():
        async with waiting(10) as made:
            told = {task["name"]: task["id"] for task in read()[0]}
            reading = Reading()
            assert "is called 'w3' now, not 'w4'" in reading.cancel(told["w3"], "w4")
            assert reading.cancel("1", "w3") == "there is no task 1 any more"
            assert reading.cancel(told["w3"], "w3") is None
            await asyncio.wait([made[3]])
            assert reading.cancel(told["w3"], "w3") == f"there is no task {told['w3']} any more"
            return [task.cancelled() for task in made]

    assert asyncio.run(main()) == [number == 3 for number in range(10)]
