"""Standing in front of methods and functions, and stepping aside again.

What stands in front calls what was there, so other tools may come before or after. What another
tool has covered by then stays where it is and only calls on, until that tool has gone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Front", "stand_in_front"]

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
