"""What the witness calls: it knows of tasks, and passes stalls on to the program."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

from offloop import _observing
from offloop._loop.event_loop import EventLoop
from offloop._watch.facts import facts_of
from offloop._watch.records import Stall

_LOGGER = logging.getLogger("offloop.watch")

Key = tuple[int, bool, int]
"""A loop, whether a callback of it or a round has stalled, and the number of that."""

CONTEXTS_MAX = 16
"""Contexts that are kept for stalls that were not told yet: more than loops stall at once."""

listeners: list[Callable[[Stall], object]] = []
"""Integrations that hear of stalls beside the program's own callback."""


class Hearing:
    """Hears of the stalls of one watch, on the witness's thread."""

    def __init__(
        self,
        on_stall: Callable[[Stall], object] | None = None,
        *,
        log: bool = False,
        variables: tuple[ContextVar[Any], ...] = (),
    ) -> None:
        self._on_stall = on_stall
        self._log = log
        self._variables = variables
        self._contexts: dict[Key, Context] = {}

    def facts(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int | None,
        native_id: int | None,
        key: Key,
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
        self._keep(key, facts.context)
        request = [] if facts.request is None else [facts.request]
        request += [f"{name}={value}" for name, value in facts.variables]
        return {
            "callback": facts.callback,
            "task": facts.task,
            "request": " ".join(request) or None,
        }

    def ident_of(self, native_id: int | None) -> int | None:
        """What Python calls the thread that the kernel has under this id."""
        for thread in threading.enumerate():
            if thread.native_id == native_id:
                return thread.ident
        # In a forked child some versions have the parent's id of the thread.
        return threading.main_thread().ident if native_id == os.getpid() else None

    def _keep(self, key: Key, context: Context | None) -> None:
        """Keep what a task's context holds now: the task may go on, and change it."""
        if type(context) is not Context or (self._on_stall is None and not listeners):
            return
        if len(self._contexts) >= CONTEXTS_MAX:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[key] = context.copy()

    def hear(
        self, loop: asyncio.AbstractEventLoop | None, fields: dict[str, Any], key: Key
    ) -> None:
        """A stall was found, or is over."""
        stall = Stall.of(fields)
        if stall.duration is not None and isinstance(loop, EventLoop):
            loop._forget_callbacks()
        if self._log:
            self._to_log(stall)
        context = self._contexts.get(key)
        if stall.duration is not None:
            self._contexts.pop(key, None)
        for listener in tuple(listeners):
            _observing.guarded(_run, context, listener, stall)
        if self._on_stall is not None:
            _run(context, self._on_stall, stall)

    def _to_log(self, stall: Stall) -> None:
        where = stall.stack[0] if stall.stack else None
        place = f"{where.filename}:{where.lineno}" if where else stall.stack_quality
        if stall.duration is None:
            _LOGGER.warning("event loop is blocked (%s) at %s", stall.cause, place)
        else:
            _LOGGER.warning(
                "event loop was blocked for %.3f s (%s) at %s", stall.duration, stall.cause, place
            )


def _run(context: Context | None, call: Callable[[Stall], object], stall: Stall) -> None:
    """Call in a copy of a context; what the call changes there is its own."""
    if context is None:
        call(stall)
    else:
        context.copy().run(call, stall)
