"""What a pool's arguments must be: a wrong one is refused at once, by its name and its value."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

__all__ = ["check_seconds", "count", "names", "values"]

COUNT_MAX = 2**32 - 1
"""The most workers, calls in a queue, or retries; the runtime counts them in 32 bits."""
BYTES_MAX = 2**63 - 1
"""The most bytes of a limit; the system's own limits know no more."""


def count(name: str, value: Any, most: int = COUNT_MAX) -> int:
    """The whole number that an argument is; whether it is too small is the caller's to say.

    >>> count("max_workers", 3)
    3
    >>> count("max_workers", "a")
    Traceback (most recent call last):
    TypeError: max_workers must be an integer, not 'a'
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number > most:
        raise OverflowError(f"{name} must be at most {most}, not {value!r}")
    return number


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is no length of time.

    >>> check_seconds("timeout", -1)
    Traceback (most recent call last):
    ValueError: timeout must be a number of seconds >= 0, not -1
    """
    text = f"{name} must be a number of seconds >= 0, not {value!r}"
    try:
        is_length = math.isfinite(value) and value >= 0
    except TypeError:
        raise TypeError(text) from None
    except OverflowError:
        is_length = False
    if not is_length:
        raise ValueError(text)


def values(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """The values that an argument has; any iterable will do."""
    try:
        iterator = iter(value)
    except TypeError:
        raise TypeError(f"{name} must be an iterable, not {value!r}") from None
    return tuple(iterator)


def names(name: str, value: Iterable[str]) -> list[str]:
    """The names that an argument has. One text is none of them, although it has characters.

    >>> names("preload", "json")
    Traceback (most recent call last):
    TypeError: preload must be an iterable of names, not 'json'
    """
    found = [] if isinstance(value, str) else list(values(name, value))
    if isinstance(value, str) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} must be an iterable of names, not {value!r}")
    return found
