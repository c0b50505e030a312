"""Methods of the standard loop that a program has replaced for every loop: ours make way for them.

Programs put functions of their own into ``asyncio.BaseEventLoop``, to trace tasks, to count
callbacks or to be silent about a closed loop. These functions are called for loops of ours too. If
they call the standard class's method, that method does the rest, at its own speed. A method that
the program puts into our own class overrides both.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events, selector_events, unix_events
from typing import Any

from offloop._loop.standard import is_function_of

__all__ = ["learn_class", "make_way"]

NAMES = (
    "call_at",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
    "create_future",
    "create_task",
    "get_debug",
    "is_closed",
    "is_running",
    "run_forever",
    "sock_recv",
    "sock_recv_into",
    "sock_sendall",
    "start_tls",
    "stop",
    "_run_once",
)
"""What the standard loop and ours have both; ``close`` and ``time`` call the standard method."""

_Standard = asyncio.SelectorEventLoop
_STANDARD_NAMES = [vars(module) for module in (base_events, selector_events, unix_events)]

_classes: list[type] = []
_own: dict[str, Any] = {}
"""What our class has itself, and does not inherit."""
_put_there: dict[str, Any] = {}
"""What stands there instead."""


def learn_class(kind: type) -> None:
    """Take the class of our loop, and see whether anything was replaced before."""
    _classes.append(kind)
    _own.update({name: vars(kind)[name] for name in NAMES if name in vars(kind)})
    make_way()


def make_way() -> None:
    """Put what the program has put into the standard classes into ours, and take it out again."""
    kind = _classes[0]
    for name in NAMES:
        method = getattr(_Standard, name)
        put = _put_there.get(name)
        if vars(kind).get(name) is not (_own.get(name) if put is None else put):
            # The program's.
            continue
        if not is_function_of(_STANDARD_NAMES, method):
            if method is not put:
                _put_there[name] = method
                setattr(kind, name, method)
        elif put is not None:
            del _put_there[name]
            if name in _own:
                setattr(kind, name, _own[name])
            else:
                delattr(kind, name)
