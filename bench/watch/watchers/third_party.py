"""Packages from the index that find stalls."""

from __future__ import annotations

import re
import time
import traceback
from typing import Any

from bench.watch.reports import THRESHOLD_S, Report
from bench.watch.watchers.base import Watcher, heard

_BLOCKED_FOR = re.compile(r"Event loop blocked for ([\d.]+)s")
_BLOCK = re.compile(r"Event Loop Block: block-(\d+)\n\s+Duration: ([\d.]+)s")
_ENTRY = re.compile(r'File "(.+)", line (\d+)')
_LENS_ENTRY = re.compile(r"(\S+) l\. (\d+) in `")
_LENS_RELEASED = re.compile(r"Blocked for (\d+)ms")

#: What the name of a blocking function means, by its beginning.
_CALLS = {
    "time.sleep": "sleep",
    "socket.": "socket",
    "ssl.": "socket",
    "lock.": "lock",
    "subprocess.": "child",
    "os.system": "child",
    "os.posix_spawn": "child",
    "os.": "file",
    "io.": "file",
    "open": "file",
}
#: A tool that says "CPU" and no more is right where code of the loop's thread computes.
_COMPUTES = frozenset({"python", "native", "native-without-gil"})


def causes_of(call: str) -> frozenset[str]:
    """Return what the name of a blocking function means, if it is a known one."""
    found = [cause for beginning, cause in _CALLS.items() if call.startswith(beginning)]
    return frozenset(found[:1])


class Blockbuster(Watcher):
    """Known blocking functions raise an exception where a loop runs."""

    def __init__(self) -> None:
        super().__init__()
        from blockbuster import BlockBuster, BlockingError

        self.refusals = (BlockingError,)
        self._tool = BlockBuster()

    async def start(self) -> None:
        """Exchange the functions."""
        self._tool.activate()

    async def stop(self) -> None:
        """Put them back."""
        self._tool.deactivate()

    def refuse(self, error: Exception) -> None:
        """Take in where it was raised, and for which function."""
        entries = traceback.extract_tb(error.__traceback__)
        places = tuple((entry.filename, entry.lineno or 0) for entry in entries)
        call = str(error).removeprefix("Blocking call to ")
        now = time.monotonic()
        report = Report(object(), now, places, said=call, causes=causes_of(call), refuses=True)
        self.reports.append(report)


class Pyleak(Watcher):
    """A thread asks the loop again and again for a sign of life; the stacks are told at the end."""

    _blocks = 0

    async def start(self) -> None:
        """Enter its context, for the whole program."""
        from pyleak.eventloop import no_event_loop_blocking

        self._context = no_event_loop_blocking(
            action="log",
            logger=heard("bench.pyleak", self._hear),
            threshold=THRESHOLD_S,
            check_interval=0.01,
        )
        await self._context.__aenter__()

    async def stop(self) -> None:
        """Leave it: that is when it names stacks."""
        await self._context.__aexit__(None, None, None)

    def _hear(self, at: float, text: str) -> None:
        if _BLOCKED_FOR.search(text):
            self._blocks += 1
            self.reports.append(Report(self._blocks, at))
        elif block := _BLOCK.search(text):
            places = tuple((name, int(line)) for name, line in _ENTRY.findall(text))
            self.reports.append(Report(int(block[1]), at, places, float(block[2])))


class Aiocop(Watcher):
    """Audit events, and samples of the stack, of each callback that was slow."""

    async def start(self) -> None:
        """Put its hooks in place, as its documentation does, and begin."""
        import aiocop

        aiocop.patch_audit_functions()
        aiocop.start_blocking_io_detection()
        aiocop.detect_slow_tasks(threshold_ms=int(THRESHOLD_S * 1000), on_slow_task=self._hear)
        aiocop.activate()
        self._stop = aiocop.deactivate

    async def stop(self) -> None:
        """Pause it; the hooks stay."""
        self._stop()

    def _hear(self, event: Any) -> None:
        if not event.exceeded_threshold:
            return
        calls = event.blocking_events
        if calls:
            call = max(calls, key=lambda one: one["severity"] or 0)
            said, causes = call["event"].partition("(")[0], causes_of(call["event"])
        else:
            call = next(iter(event.cpu_stack_samples), {"trace": ""})
            said, causes = event.reason, _COMPUTES
        entries = [entry.split(":") for entry in call["trace"].split(" <- ") if entry]
        places = tuple((entry[0], int(entry[1])) for entry in entries)
        now, seconds = time.monotonic(), event.elapsed_ms / 1000
        self.reports.append(Report(object(), now, places, seconds, said, causes))


class Asynclens(Watcher):
    """A task beats a hundred times in a second, and a thread in Rust misses the beat."""

    _blocks = 0

    async def start(self) -> None:
        """Begin."""
        from asynclens import AsyncWatchdog

        self._tool = AsyncWatchdog(
            threshold_ms=int(THRESHOLD_S * 1000), logger=heard("bench.asynclens", self._hear)
        )
        self._tool.start()

    async def stop(self) -> None:
        """End."""
        await self._tool.stop()

    def _hear(self, at: float, text: str) -> None:
        released = _LENS_RELEASED.search(text)
        if released is None:
            self._blocks += 1
        places = tuple((name, int(line)) for name, line in _LENS_ENTRY.findall(text))
        seconds = int(released[1]) / 1000 if released else None
        self.reports.append(Report(self._blocks, at, places, seconds))
