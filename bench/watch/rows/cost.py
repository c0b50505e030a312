"""What a watch costs each callback: a chain of them, without and with it in the same process."""

from __future__ import annotations

import asyncio

from bench.harness.goals import limit
from bench.harness.rows import Case, Metric
from bench.loop.rows.callbacks import chain
from bench.loop.rows.running import nanoseconds_each, say
from bench.watch.contenders import BESIDE_NOTHING
from bench.watch.rows.base import SETTLE_S, WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

ADDED = Metric("added_ns", "added to each callback", "ns")
ALONE = Metric("alone_ns", "a callback without it", "ns")


async def _measure(watcher: Watcher, count: int) -> tuple[float, float]:
    # The shortest passes are compared: what a watch costs is in all of them.
    alone, *_ = await nanoseconds_each(count, chain)
    await watcher.start()
    await asyncio.sleep(SETTLE_S)
    watched, *_ = await nanoseconds_each(count, chain)
    await watcher.stop()
    return alone, watched


def _run(case: Case) -> None:
    watcher = watcher_of(case)
    alone, watched = run_on_its_loop(watcher, _measure(watcher, case.pick(50_000, 20_000)))
    say(added_ns=watched - alone, alone_ns=alone)


ROW = WatchRow(
    name="cost",
    title="the cost of a callback",
    about="The chain of `call_soon`, each callback scheduling the next one; the shortest of five "
    "passes without and with the tool. Ours is on our loop, the peers are on the standard one.",
    metrics=(ADDED, ALONE),
    goals=(limit("added to each callback", ADDED, 25),),
    run=_run,
    contenders=BESIDE_NOTHING,
    rounds=(6, 2),
    bound_s=120,
)
