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
    if not is_plain(value):
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


def is_plain(value: object) -> bool:
    """Whether ``value`` is data: numbers, texts, containers of such, objects with nothing else."""
    waiting = [value]
    left = _ITEMS_MAX
    while waiting:
        item: Any = waiting.pop()
        kind = type(item)
        if kind in _ATOMS:
            continue
        if kind in (list, tuple, set, frozenset, dict):
            # What contains itself is counted until nothing is left.
            left -= len(item) + 1
            if left < 0:
                return False
            waiting.extend(item)
            if kind is dict:
                waiting.extend(item.values())
        elif _is_plain_object(item, kind):
            left -= 1
            waiting.append(vars(item))
        else:
            return False
    return True


def _is_plain_object(item: Any, kind: Any) -> bool:
    """Whether an object is its dictionary and nothing else, and is pickled so."""
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not hasattr(kind, "__slots__")
        and not issubclass(kind, type)
        and kind.__basicsize__ <= _PLAIN_OBJECT_BYTES
        and type(getattr(item, "__dict__", None)) is dict
    )
