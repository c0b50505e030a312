"""Peak memory while a 400 MB array travels as an argument."""

from __future__ import annotations

import os

from bench import work
from bench.harness.accounts import own_tree, peak_bytes, reset_peak, resident_bytes
from bench.harness.goals import limit
from bench.harness.rows import Metric
from bench.pools.rows.base import LIKE_FORKSERVER, Case, row

ARRAY_BYTES = 400_000_000

PARENT = Metric("parent_x", "parent, beyond the array", "x the data")
WORKER = Metric("worker_x", "worker, beyond the array", "x the data")
PARENT_MB = Metric("parent_mb", "parent, peak", "MB")
WORKER_MB = Metric("worker_mb", "worker, peak", "MB")


async def run(case: Case) -> None:
    """Reset the high-water marks of the tree, send the array once, and read the marks."""
    import numpy

    await case.peer.open(2)
    # Both workers have NumPy loaded before the marks are reset.
    warm = numpy.arange(1000, dtype=numpy.float64)
    for number in range(6):
        expected = work.stamp(warm, number)
        assert await case.peer.begin(work.read_sum, warm, number) == expected
    array = numpy.arange(ARRAY_BYTES // 8, dtype=numpy.float64)
    here = os.getpid()
    # Taken once: what a pool keeps from the first call must not make the next one look cheaper.
    before = {pid: resident_bytes(pid) for pid in own_tree()}
    for number in range(case.pick(2, 1)):
        for pid in own_tree():
            reset_peak(pid)
        expected = work.stamp(array, number)
        assert await case.peer.begin(work.read_sum, array, number) == expected
        after = {pid: peak_bytes(pid) for pid in own_tree()}
        parent = after.pop(here)
        grown = {pid: peak - before.get(pid, 0) for pid, peak in after.items()}
        worker = max(grown, key=lambda pid: grown[pid])
        case.add(PARENT_MB.key, parent / 1e6)
        case.add(WORKER_MB.key, after[worker] / 1e6)
        case.add(PARENT.key, (parent - before[here]) / ARRAY_BYTES)
        case.add(WORKER.key, max(0.0, grown[worker] / ARRAY_BYTES - 1.0))


GOALS = (
    limit("400 MB argument: parent's memory beyond it", PARENT, 1.1),
    limit("400 MB argument: worker's memory beyond it", WORKER, 1.1),
)

ROW = row(
    name="memory",
    title="Peak memory for a 400 MB argument",
    about="High-water mark of resident memory, mapped shared memory included, minus what was "
    "resident before the first call; in the worker the array it receives is taken off too.",
    metrics=(PARENT, WORKER, PARENT_MB, WORKER_MB),
    run=run,
    without=LIKE_FORKSERVER,
    goals=GOALS,
    quick_peers=("multiprocessing",),
    is_outcome=True,
    packages=("numpy",),
)
