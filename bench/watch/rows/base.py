"""What the rows about watches have in common: how a tool is started, and what the loop shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bench.harness.results import take
from bench.harness.rows import Case, Row
from bench.watch.contenders import TOOLS
from bench.watch.reports import THRESHOLD_S
from bench.watch.watchers.base import Watcher

if TYPE_CHECKING:
    from bench.harness.building import Programs
    from bench.harness.turns import Turn

#: How long a tool has to find its feet.
SETTLE_S = 0.3
#: How long it has to say what it says when a stall is over.
AFTER_S = 0.3

_TICK_S = 0.01

T = TypeVar("T")


def answer(turn: Turn, _programs: Programs) -> None:
    """Start one process, and take in what it says."""
    take(turn.cells, turn.start(turn.child()).answer())


@dataclass(frozen=True, kw_only=True)
class WatchRow(Row):
    """A row that is put to tools, in processes that the row starts."""

    contenders: tuple[str, ...] = TOOLS
    full_only: tuple[str, ...] = ("offloop-on-asyncio",)
    is_outcome: bool = True
    ask: Callable[[Turn, Programs], None] = answer
    #: Whether the client of the loop's benchmark is needed.
    needs_client: bool = False


def watcher_of(case: Case) -> Watcher:
    """Return the tool of this process."""
    assert case.contender.make is not None
    watcher: Watcher = case.contender.make()
    return watcher


def run_on_its_loop(watcher: Watcher, main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of the kind that the tool watches, and let it finish."""
    try:
        with asyncio.Runner(loop_factory=watcher.new_loop) as runner:
            return runner.run(main)
    finally:
        watcher.finish()


class Ticker:
    """Counts how often the loop did not turn for longer than the threshold."""

    def __init__(self) -> None:
        self.pauses = 0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            self.pauses += now - last - _TICK_S > THRESHOLD_S
            last = now

    def stop(self) -> None:
        """End to count."""
        self._task.cancel()
