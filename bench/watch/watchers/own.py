"""Our watch, as a program starts it: ``offloop.watch``."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any

from bench.watch.reports import THRESHOLD_S, Report
from bench.watch.watchers.base import Watcher
from bench.watch.watchers.stamps import Stamps

#: The causes that blame no code.
_NO_CODE = ("starved", "stopped")


def absence() -> str | None:
    """Say why our watch cannot be measured, if it cannot."""
    if hasattr(importlib.import_module("offloop"), "watch"):
        return None
    return "this build of offloop has no watch"


class Own(Watcher):
    """The watch on our loop, with a callback of the program.

    While the GIL is held, the callback cannot run. So what the watch writes to the standard error
    is stamped by another process, and the later of that moment and the one that the watch names
    counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Any] = []
        self._stamps: Stamps | None = None
        self._standard_error = -1

    async def start(self) -> None:
        """Begin to watch, with the standard error going through another process."""
        self._standard_error = os.dup(2)
        self._stamps = Stamps()
        os.dup2(self._stamps.descriptor, 2)
        watch = importlib.import_module("offloop").watch
        watch(threshold=THRESHOLD_S, on_stall=self._told.append)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return our loop."""
        loop: asyncio.AbstractEventLoop = importlib.import_module("offloop").new_event_loop()
        return loop

    def finish(self) -> None:
        """Put the standard error back, and match what was told with what was seen."""
        if self._stamps is None:
            return
        os.dup2(self._standard_error, 2)
        seen = [stamp.at for stamp in self._stamps.finish()]
        self.reports += [_report(stall, seen) for stall in self._told]


class OwnOnAsyncio(Own):
    """The watch on the standard loop."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return the standard loop."""
        return asyncio.new_event_loop()


def _report(stall: Any, seen: list[float]) -> Report:
    shown = next((at for at in seen if at >= stall.started), stall.reported)
    cause = stall.cause.value
    return Report(
        stall.started,
        max(stall.reported, shown),
        tuple((entry.filename, entry.lineno) for entry in stall.stack),
        stall.duration,
        cause,
        frozenset({cause}),
        blames=cause not in _NO_CODE,
    )
