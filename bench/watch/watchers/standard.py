"""What the standard library has: the loop's debug mode, and the timer of ``faulthandler``.

The second is how programs use it by hand: a task puts the dump off again and again, and where it
does not come to that, the dump is written.
"""

from __future__ import annotations

import asyncio
import faulthandler
import re

from bench.watch.reports import THRESHOLD_S, Report
from bench.watch.watchers.base import Watcher, heard
from bench.watch.watchers.stamps import Stamps

_TOOK = re.compile(r"took ([\d.]+) seconds")
_RUNNING = re.compile(r"(?:running|created) at ([^<>]+?):(\d+)")
_ENTRY = re.compile(r'File "(.+)", line (\d+)')

#: How often the dump is put off.
_BEAT_S = 0.01


class DebugMode(Watcher):
    """``loop.set_debug(True)``, which logs callbacks that were slow."""

    async def start(self) -> None:
        """Switch it on."""
        heard("asyncio", self._hear)
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = THRESHOLD_S

    def _hear(self, at: float, text: str) -> None:
        took = _TOOK.search(text)
        if took is None:
            return
        places = tuple((name, int(line)) for name, line in _RUNNING.findall(text)[:1])
        self.reports.append(Report(object(), at, places, float(took[1])))


class Faulthandler(Watcher):
    """``faulthandler.dump_traceback_later``, put off a hundred times in a second."""

    def __init__(self) -> None:
        super().__init__()
        self._stamps: Stamps | None = None

    async def start(self) -> None:
        """Put it off for the first time."""
        self._stamps = Stamps()
        self._beating = asyncio.create_task(self._beat(self._stamps.descriptor))

    async def _beat(self, descriptor: int) -> None:
        while True:
            faulthandler.dump_traceback_later(THRESHOLD_S, file=descriptor)
            await asyncio.sleep(_BEAT_S)

    async def stop(self) -> None:
        """Put it off for ever."""
        self._beating.cancel()
        faulthandler.cancel_dump_traceback_later()

    def finish(self) -> None:
        """Read the dumps."""
        if self._stamps is None:
            return
        began: float | None = None
        places: list[tuple[str, int]] = []
        for stamp in self._stamps.finish():
            if stamp.text.startswith("Timeout ("):
                self._report(began, places)
                began, places = stamp.at, []
            elif entry := _ENTRY.search(stamp.text):
                places.append((entry[1], int(entry[2])))
        self._report(began, places)

    def _report(self, at: float | None, places: list[tuple[str, int]]) -> None:
        if at is not None:
            self.reports.append(Report(at, at, tuple(places)))
