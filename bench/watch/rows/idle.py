"""A loop that waits for nothing: how often its process wakes up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.harness.accounts import voluntary_switches
from bench.harness.goals import limit
from bench.harness.rows import Case, Metric
from bench.loop.rows.running import say, serve_forever
from bench.watch.contenders import BESIDE_NOTHING
from bench.watch.rows.base import SETTLE_S, WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

if TYPE_CHECKING:
    from bench.harness.building import Programs
    from bench.harness.turns import Turn

WAKE_UPS = Metric("wake_ups", "wake-ups", "1/s")

#: How long they are counted, in the full and the quick form.
_SECONDS = {False: 10.0, True: 3.0}


async def _rest(watcher: Watcher) -> None:
    await watcher.start()
    await asyncio.sleep(SETTLE_S)
    say(ready=1)
    await serve_forever()


def _run(case: Case) -> None:
    watcher = watcher_of(case)
    run_on_its_loop(watcher, _rest(watcher))


def _ask(turn: Turn, _programs: Programs) -> None:
    first = turn.start(turn.child())
    first.answer()
    time.sleep(1)
    before = voluntary_switches([first.pid])
    began = time.monotonic()
    time.sleep(_SECONDS[turn.quick])
    switches = voluntary_switches([first.pid]) - before
    turn.answered({WAKE_UPS.key: switches / (time.monotonic() - began)})


ROW = WatchRow(
    name="idle",
    title="an idle loop",
    about="Wake-ups of all threads of a process whose loop waits, by the kernel's account.",
    metrics=(WAKE_UPS,),
    goals=(limit("an idle loop: wake-ups", WAKE_UPS, 0),),
    run=_run,
    contenders=BESIDE_NOTHING,
    ask=_ask,
    rounds=(5, 1),
    bound_s=30,
)
