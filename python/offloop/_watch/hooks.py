"""Standing in front of methods and functions, and stepping aside again.

What stands in front calls what was there, so other tools may come before or after. What another
tool has covered by then stays where it is and only calls on, until that tool has gone.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import events
from collections.abc import Callable
from typing import Any

from _offloop_worker._offloop import Overheard

__all__ = ["Front", "hear_announcements", "stand_in_front"]

Around = Callable[..., Any]


_LEAVING: list[Front] = []
"""What is to go as soon as nothing covers it."""


class Front:
    """Something of ours in the place of an attribute."""

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self._place, self._name, self._replacement = owner, name, replacement
        self._had_one = name in vars(owner)
        self._before = vars(owner).get(name)
        self._set(replacement)

    def step_aside(self) -> None:
        """Put back what was there, once ours is the foremost."""
        if not _LEAVING and self._is_foremost():
            self._restore()
            return
        _LEAVING.append(self)
        while foremost := [front for front in _LEAVING if front._is_foremost()]:
            for front in foremost:
                _LEAVING.remove(front)
                front._restore()

    def _is_foremost(self) -> bool:
        return vars(self._place).get(self._name) is self._replacement

    def _restore(self) -> None:
        if self._had_one:
            self._set(self._before)
        elif isinstance(self._place, type):
            delattr(self._place, self._name)
        else:
            del vars(self._place)[self._name]

    def _set(self, value: Any) -> None:
        if isinstance(self._place, type):
            setattr(self._place, self._name, value)
        else:
            # An object may do more as an attribute is set: that of a mock is gone once deleted.
            vars(self._place)[self._name] = value


def stand_in_front(kind: type, name: str, around: Around) -> Front:
    """Have a method of a class call ``around(the method, self, ...)``."""
    own = vars(kind).get(name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = own.__get__(self) if own is not None else getattr(super(kind, self), name)
        return around(inner, self, *args, **kwargs)

    return Front(kind, name, functools.wraps(getattr(kind, name))(method))


def hear_announcements(heard: Callable[[Any], object]) -> list[Front]:
    """Have each loop that begins to run in a thread announced, and None when it ends.

    The standard loop and uvloop both tell ``asyncio.events._set_running_loop``; so must any loop
    for which ``asyncio.get_running_loop`` is to work.
    """
    announce = Overheard(heard, events._set_running_loop)
    return [Front(owner, "_set_running_loop", announce) for owner in (events, asyncio)]
