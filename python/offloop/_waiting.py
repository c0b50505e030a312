"""Tells of threads that wait for a pool to drain, if a listener has been given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager

__all__ = ["listen", "waiting"]

Listener = Callable[[Executor, bool], AbstractContextManager[object]]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """From now on enter what ``listener`` makes for as long as a thread waits for a pool."""
    _listeners[:] = [listener]


def waiting(executor: Executor, by_with_block: bool) -> AbstractContextManager[object]:
    """To be entered by a thread that waits: because it leaves a ``with`` block, or on its own."""
    for listener in _listeners:
        return listener(executor, by_with_block)
    return contextlib.nullcontext()
