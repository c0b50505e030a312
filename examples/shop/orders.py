"""Orders: they are placed, ranked by a thread, and invoiced."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PAUSE_SECONDS = 0.2
_LINES = 100_000

_random = random.Random(7)
_amounts = [_random.random() for _ in range(1_000_000)]
_refused = iter([True])


def retried(call: Callable[P, T]) -> Callable[P, T]:
    """Try once more when the warehouse does not answer."""

    @functools.wraps(call)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except ConnectionError:
            time.sleep(_PAUSE_SECONDS)
            return call(*args, **kwargs)

    return again


@retried
def place(name: str) -> str:
    """Place an order with the warehouse, which refuses the first one."""
    if next(_refused, False):
        raise ConnectionRefusedError("the warehouse is busy")
    return f"ordered: {name}"


def rank_in_background() -> None:
    """Let a thread sort all amounts."""
    threading.Thread(target=_rank).start()


def _rank() -> None:
    sorted(_amounts)


def invoice() -> str:
    """Write down the lines of an invoice."""
    return "\n".join(f"{number:06d}" for number in range(_LINES))
