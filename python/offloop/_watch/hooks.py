"""Standing in front of methods and functions, and stepping aside again.

What stands in front calls what was there, so other tools may come before or after. What another
tool has covered by then stays where it is, and only calls on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Front", "stand_in_front"]

Around = Callable[..., Any]


class Front:
    """Something of ours in the place of an attribute."""

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self._owner, self._name, self._replacement = owner, name, replacement
        self._had_one = name in vars(owner)
        self._before = vars(owner).get(name)
        setattr(owner, name, replacement)

    def step_aside(self) -> None:
        """Put back what was there, if ours is still the foremost."""
        if vars(self._owner).get(self._name) is not self._replacement:
            return
        if self._had_one:
            setattr(self._owner, self._name, self._before)
        else:
            delattr(self._owner, self._name)


def stand_in_front(kind: type, name: str, around: Around) -> Front:
    """Have a method of a class call ``around(the method, self, ...)``."""
    own = vars(kind).get(name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = own.__get__(self) if own is not None else getattr(super(kind, self), name)
        return around(inner, self, *args, **kwargs)

    return Front(kind, name, functools.wraps(getattr(kind, name))(method))
