"""Plain data, and whether two processes have the same.

Data is numbers, texts, containers of such, and objects that consist of nothing else.
"""

from __future__ import annotations

from _pickle import PicklingError, dumps

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SMALL_BYTES_MAX", "fingerprint", "is_plain"]


SMALL_BYTES_MAX = 16 * 1024
"""Pickles up to this size are compared by value: 20 us of work at most."""


def fingerprint(value: object) -> bytes | None:
    """The same for equal values in both processes; None for what is no plain data, or large."""
    if not is_plain(value, 8):
        return None
    try:
        # Protocol 3 has no lengths in it that a module's name would change.
        pickle = dumps(value, 3)
    except (PicklingError, AttributeError, TypeError, ValueError, RecursionError, RuntimeError):
        return None
    if len(pickle) > SMALL_BYTES_MAX:
        return None
    return pickle.replace(b"c__mp_main__\n", b"c__main__\n")


_ATOMS = (int, float, complex, bool, str, bytes, bytearray, type(None), type(...))
_ITEMS_MAX = 4096
_PLAIN_OBJECT_BYTES = object.__basicsize__ + 16
"""An object of this size has a dictionary and weak references, and no memory that C code fills."""


def is_plain(value: object, depth: int) -> bool:
    """Whether ``value`` is data: numbers, texts, containers of such, objects with nothing else."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if depth == 0:
        return False
    if kind in (list, tuple, set, frozenset, dict):
        items: Any = value
        if len(items) > _ITEMS_MAX:
            return False
        if kind is dict and not all(is_plain(item, depth - 1) for item in items.values()):
            return False
        return all(is_plain(item, depth - 1) for item in items)
    if (
        kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__reduce__ is not object.__reduce__
        or getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None)
        or hasattr(kind, "__slots__")
        or isinstance(value, type)
    ):
        return False
    state = getattr(value, "__dict__", None)
    return (
        type(state) is dict
        and kind.__basicsize__ <= _PLAIN_OBJECT_BYTES
        and is_plain(state, depth - 1)
    )
