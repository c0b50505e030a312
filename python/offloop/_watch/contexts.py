"""What hears of a stall hears of it in the context of the task or callback that is to blame.

So loggers and tracers find what the program has set for its request. The witness calls this in the
place of the `Hearing` around which it stands.

Threads:    the witness's alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextvars import Context
from typing import Any

from offloop import _observing
from offloop._watch.hearing import Hearing
from offloop._watch.records import Stall

__all__ = ["InContext", "listeners"]

Key = tuple[int, bool, int]
"""A loop, whether a callback of it or a round has stalled, and the number of that."""

CONTEXTS_MAX = 16
"""Contexts that are kept for stalls that are not over: more than loops stall at once."""

listeners: list[Callable[[Stall], object]] = []
"""Integrations that hear of stalls beside the program's own callback."""

_NAMES = [field.name for field in dataclasses.fields(Stall)]


class InContext:
    """Hears of stalls, each in its context."""

    def __init__(self, hearing: Hearing) -> None:
        self.hearing = hearing
        self._contexts: dict[Key, Context] = {}

    def facts(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int | None,
        native_id: int | None,
        key: Key,
    ) -> dict[str, Any]:
        """What is known of the callback of this number, while it runs or just after."""
        facts = self.hearing.facts(loop, number, native_id)
        context = facts.pop("context", None)
        if type(context) is Context:
            if len(self._contexts) >= CONTEXTS_MAX:
                del self._contexts[next(iter(self._contexts))]
            # What it holds now: the task may go on, and change it.
            self._contexts[key] = context.copy()
        return facts

    def ident_of(self, native_id: int | None) -> int | None:
        """What Python calls the thread that the kernel has under this id."""
        return self.hearing.ident_of(native_id)

    def hear(
        self, loop: asyncio.AbstractEventLoop | None, fields: dict[str, Any], key: Key
    ) -> None:
        """A stall was found, or is over."""
        context = self._contexts.get(key)
        if fields["duration"] is not None:
            self._contexts.pop(key, None)
        for listener in tuple(listeners):
            stall = Stall.of({name: fields[name] for name in _NAMES})
            _observing.guarded(_run, context, listener, stall)
        _run(context, self.hearing.hear, loop, fields)


def _run(context: Context | None, call: Callable[..., object], *arguments: Any) -> None:
    """Call in a copy of a context; what the call changes there is its own."""
    if context is None:
        call(*arguments)
    else:
        context.copy().run(call, *arguments)
