"""What the values use that workers have by an import, and which of them may change at all."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Iterator
from typing import Any

from _offloop_worker import codec
from _offloop_worker.namespace import MAYBE, VALUE
from _offloop_worker.plain import fingerprint
from offloop._main.module import MODULE_NAMES, MainModule
from offloop._main.pickling import FIXED, content_of, is_a

__all__ = ["fate_of", "functions_in", "is_named"]


def fate_of(path: str, value: Any, changed: bool, main: MainModule) -> tuple[int | None, bytes]:
    """How a name of an imported main module is sent; None: it is as imported."""
    root = path.partition(".")[0]
    attribute = path.rpartition(".")[2] if "." in path else ""
    if root not in main.bound and (root in main.rebound or "*" not in main.bound):
        return VALUE, b""
    if path in MODULE_NAMES:
        return None, b""
    is_assigned = attribute in main.stored if attribute else root in main.rebound
    if is_a(value, types.ModuleType) and not is_assigned:
        return None, b""
    if is_named(value) and value.__qualname__ == path:
        if codec.home_of(value) is None:
            return (VALUE if changed or is_assigned else None), b""
        return (None if _is_of_the_import(path, value, main) else VALUE), b""
    if main.lines.get(path) is not None and not is_named(value):
        # Something else stands where the import defines a function or a class: a mock.
        return VALUE, b""
    if attribute and not changed and not _is_data(value):
        return (VALUE if is_assigned else None), b""
    mark = fingerprint(value)
    if path in main.literals:
        same = mark is not None and mark == fingerprint(main.literals[path])
        return (None if same else VALUE), b""
    if changed:
        return VALUE, b""
    if mark is not None:
        # What nothing assigns, and what cannot change in place, is as each import makes it: an id
        # of the process, the time.
        return (MAYBE, mark) if is_assigned or not _is_immutable(value) else (None, b"")
    return (VALUE if is_assigned and not attribute else None), b""


def _is_of_the_import(path: str, value: Any, main: MainModule) -> bool:
    """Whether the import defines the function or class that bears this name."""
    owner = path
    while owner not in main.lines and "." in owner:
        # What a decorator or a base puts into a class has no definition of its own.
        owner = owner.rpartition(".")[0]
    line = main.lines.get(owner, 0)
    if owner != path:
        return line is None
    if line is None or not is_a(value, types.FunctionType):
        return owner in main.lines or "*" in main.bound
    code: types.CodeType = value.__code__
    same_file = os.path.basename(code.co_filename) == os.path.basename(main.file)
    return code.co_firstlineno == line and same_file


def _is_immutable(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_immutable, value))
    return is_a(value, FIXED)


def is_named(value: Any) -> bool:
    return is_a(value, (types.FunctionType, type)) or type(value).__name__ == ("_lru_cache_wrapper")


def _is_data(value: Any) -> bool:
    return not (callable(value) or hasattr(type(value), "__get__"))


def functions_in(value: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """Functions that run when ``value`` is called, or when one of its methods is."""
    if id(value) in seen or len(seen) > 4096:
        return
    seen.add(id(value))
    if is_a(value, types.FunctionType):
        yield value
        for cell in value.__closure__ or ():
            for content in content_of(cell):
                yield from functions_in(content, seen)
        inner = [value.__dict__.get("__wrapped__")]
    elif is_a(value, (classmethod, staticmethod, types.MethodType)):
        inner = [value.__func__]
    elif is_a(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif is_a(value, functools.partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif is_a(value, type):
        inner = list(vars(value).values()) if codec.home_of(value) is not None else []
    else:
        state = getattr(value, "__dict__", None) if is_named(value) else None
        inner = [state.get("__wrapped__")] if state else []
    for part in inner:
        yield from functions_in(part, seen)
