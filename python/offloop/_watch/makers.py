"""Where tasks are made, without the debug mode, while a watch is on.

The native half keeps the function that has made each task, and the instruction
(`event_loop/round/makers.rs`). Functions of asyncio and of our own loop are passed over.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

from _offloop_worker._offloop import remember_makers

__all__ = ["forget", "remember"]

PASSED = ("asyncio", "offloop._loop", "offloop._watch")
"""Packages between a program and a task that it makes."""

_watches = 0


def remember() -> str | None:
    """Begin to remember; why that is impossible here, if it is."""
    global _watches
    if not _watches:
        try:
            remember_makers(list(_codes()))
        except RuntimeError as error:
            return str(error)
    _watches += 1
    return None


def forget() -> None:
    """End what `remember` has begun, once each watch has ended it."""
    global _watches
    _watches -= 1
    if not _watches:
        remember_makers()


def _codes() -> Iterator[types.CodeType]:
    """The code objects of all functions of the packages."""
    for name, module in list(sys.modules.items()):
        is_passed = any(name == package or name.startswith(f"{package}.") for package in PASSED)
        if type(module) is types.ModuleType and is_passed:
            yield from _codes_in(vars(module), name)


def _codes_in(namespace: dict[str, object], module: str) -> Iterator[types.CodeType]:
    for value in list(namespace.values()):
        if type(value) is types.FunctionType and value.__module__ == module:
            yield from _nested(value.__code__)
        elif isinstance(value, type) and value.__module__ == module:
            yield from _codes_in(dict(vars(value)), module)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if type(const) is types.CodeType:
            yield from _nested(const)
