"""What the witness calls: it knows of tasks, and passes stalls on to the program."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any

from offloop._loop.event_loop import EventLoop
from offloop._watch.facts import facts_of
from offloop._watch.records import Stall

_LOGGER = logging.getLogger("offloop.watch")


class Hearing:
    """Hears of the stalls of one watch, on the witness's thread."""

    def __init__(
        self,
        on_stall: Callable[[Stall], object] | None = None,
        *,
        log: bool = False,
        variables: tuple[ContextVar[Any], ...] = (),
        on_words: Callable[[Stall, str | None], object] | None = None,
    ) -> None:
        self._on_stall = on_stall
        self._on_words = on_words
        self._log = log
        self._variables = variables

    def facts(
        self, loop: asyncio.AbstractEventLoop, number: int | None, native_id: int | None
    ) -> dict[str, Any]:
        """What is known of the callback of this number, while it runs or just after.

        A loop that is not ours has no numbers: then of what its thread does now.
        """
        called: object = None
        context: Context | None = None
        if number is not None and isinstance(loop, EventLoop):
            found = loop._callback_of(number)
            if found is None:
                return {"callback": None, "task": None, "request": None}
            called, context = found
        ident = self.ident_of(native_id) or 0
        facts = facts_of(called, context, ident, self._variables)
        request = [] if facts.request is None else [facts.request]
        request += [f"{name}={value}" for name, value in facts.variables]
        return {
            "callback": facts.callback,
            "task": facts.task,
            "context": facts.context,
            "request": " ".join(request) or None,
        }

    def ident_of(self, native_id: int | None) -> int | None:
        """What Python calls the thread that the kernel has under this id."""
        for thread in threading.enumerate():
            if thread.native_id == native_id:
                return thread.ident
        # In a forked child some versions have the parent's id of the thread.
        return threading.main_thread().ident if native_id == os.getpid() else None

    def hear(self, loop: asyncio.AbstractEventLoop | None, fields: dict[str, Any]) -> None:
        """A stall was found, or is over."""
        words = fields.get("words")
        stall = Stall.of(fields)
        if stall.duration is not None and isinstance(loop, EventLoop):
            loop._forget_callbacks()
        if self._log:
            self._to_log(stall)
        if self._on_stall is not None:
            self._on_stall(stall)
        if self._on_words is not None:
            self._on_words(stall, words)

    def _to_log(self, stall: Stall) -> None:
        """Log a stall as the words tell it, in one line; ``record.stall`` is the whole of it."""
        lasts = stall.duration is None
        lasted = time.monotonic() - stall.started if lasts else stall.duration
        _LOGGER.warning(
            "event loop %s for %.3f s: %s",
            "has been blocked" if lasts else "was blocked",
            lasted,
            "; ".join(_parts(stall)),
            extra={"stall": stall},
        )


def _parts(stall: Stall) -> Iterator[str]:
    detail = "" if stall.detail is None else f" {stall.detail}"
    if stall.cause.blames_no_code:
        yield f"no code is to blame ({stall.cause})"
    elif stall.culprit is not None:
        place = f"{stall.culprit.filename}:{stall.culprit.lineno} in {stall.culprit.function}"
        yield f"{place} ({stall.cause}{detail})"
    else:
        yield f"{stall.callback or stall.stack_quality} ({stall.cause}{detail})"
    if stall.task is not None:
        yield f"task {stall.task.name} in {stall.task.coroutine}"
    if stall.request is not None:
        yield f"request {stall.request}"
    if stall.advice is not None and stall.duration is None:
        yield f"instead: {stall.advice}"
