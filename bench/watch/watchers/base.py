"""What every tool has in common: it is started on a running loop, and what it says is kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from bench.watch.reports import Report


class Watcher:
    """A tool that watches the loop; this one does nothing, and is what all are compared with."""

    #: What it raises in place of a stall.
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a loop of the kind that it watches here."""
        return asyncio.new_event_loop()

    async def start(self) -> None:
        """Begin to watch the running loop."""

    async def stop(self) -> None:
        """End to watch, on the loop; some tools speak only then."""

    def finish(self) -> None:
        """Take in what was said, when the loop is closed."""

    def refuse(self, error: Exception) -> None:
        """Take in a refusal."""
        raise NotImplementedError


class Ear(logging.Handler):
    """Hears what a tool logs, and when."""

    def __init__(self, hear: Callable[[float, str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on."""
        self._hear(time.monotonic(), record.getMessage())


def heard(name: str, hear: Callable[[float, str], None]) -> logging.Logger:
    """Return the logger of this name, which is heard and shown nowhere."""
    logger = logging.getLogger(name)
    logger.addHandler(Ear(hear))
    logger.propagate = False
    return logger
