"""A value for each event loop, for as long as the loop exists.

Loops are told apart by identity: a class of loops may compare and hash them in its own way, and no
code of the program's is to run here.

Threads:    any.
"""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

__all__ = ["PerLoop"]

Value = TypeVar("Value")


class PerLoop(Generic[Value]):
    """Values by their loops, which are not kept alive."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], Value]] = {}

    def get(self, loop: Any) -> Value | None:
        """The value of a loop, if it has one."""
        entry = self._entries.get(id(loop))
        return entry[1] if entry is not None and entry[0]() is loop else None

    def set(self, loop: Any, value: Value) -> None:
        """Give a loop a value."""
        number, entries = id(loop), self._entries

        def gone(reference: weakref.ref[Any]) -> None:
            entry = entries.get(number)
            # Another loop may have the address by now.
            if entry is not None and entry[0] is reference:
                del entries[number]

        entries[number] = weakref.ref(loop, gone), value

    def discard(self, loop: Any) -> None:
        """Forget the value of a loop, if it has one."""
        if self.get(loop) is not None:
            del self._entries[id(loop)]

    def items(self) -> list[tuple[Any, Value]]:
        """The loops that exist, and their values."""
        entries = list(self._entries.values())
        found = [(reference(), value) for reference, value in entries]
        return [(loop, value) for loop, value in found if loop is not None]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
