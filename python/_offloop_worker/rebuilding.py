"""What the pickles of functions and classes call to make them again."""

from __future__ import annotations

import marshal
import types

from _offloop_worker import namespace

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "begin_class",
    "complete_class",
    "make_alias",
    "make_cached",
    "make_function",
    "make_new_type",
    "note_complete",
    "set_function_state",
]


def make_function(code: bytes, module: str, name: str, cells: int | None) -> types.FunctionType:
    """A function whose globals are those of ``module`` here; ``set_function_state`` fills it."""
    closure = None if cells is None else tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(marshal.loads(code), namespace.space_of(module), name, None, closure)


def set_function_state(function: Any, state: tuple[Any, ...]) -> None:
    """Set what a function has besides its code."""
    attributes, contents, members, submodules = state
    for cell, content in zip(function.__closure__ or (), contents, strict=True):
        if content:
            cell.cell_contents = content[0]
    for submodule in submodules:
        __import__(submodule)
    for name, value in members.items():
        setattr(function, name, value)
    vars(function).update(attributes)


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """The function with a cache of its own around it."""
    from functools import lru_cache

    return lru_cache(maxsize, typed)(function)


def make_new_type(module: str, name: str, supertype: Any) -> Any:
    """A new type of the same name."""
    from typing import NewType

    made = NewType(name, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def make_alias(kind: Any, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """An alias of a type; ``kind`` is what the ``type`` statement makes."""
    return kind(name, value, type_params=parameters)


_complete: Any = None


def note_complete(cls: type) -> None:
    """Remember that ``cls`` is as it should be in this process."""
    global _complete
    if _complete is None:
        from weakref import WeakSet

        _complete = WeakSet()
    _complete.add(cls)


def begin_class(
    make: Callable[..., type], arguments: tuple[Any, ...], module: str | None, path: str
) -> type:
    """A class without its attributes, or the one of the same origin that is here already."""
    cls = _without_hooks(make, arguments)
    key = (module or "", path)
    if module is not None and namespace.is_being_bound(key):
        # What its attributes refer to may refer back to it.
        namespace.space_of(module)[path] = cls
    return cls


def _without_hooks(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Make a class without its bases' hooks: they ran in the program, where it was made."""
    hooks = []
    for bases in arguments:
        if type(bases) is tuple:
            for base in {one for cls in bases if isinstance(cls, type) for one in cls.__mro__}:
                hook = vars(base).get("__init_subclass__")
                if hook is not None and base.__module__ in namespace.homes():
                    hooks.append((base, hook))
    for base, _hook in hooks:
        type.__setattr__(base, "__init_subclass__", classmethod(lambda cls, **_options: None))
    try:
        return make(*arguments)
    finally:
        for base, hook in hooks:
            type.__setattr__(base, "__init_subclass__", hook)


def complete_class(cls: Any, state: tuple[Any, ...]) -> None:
    """Give a new class its attributes; a complete class keeps those that it has."""
    if _complete is not None and cls in _complete:
        return
    from cloudpickle import cloudpickle as travel  # type: ignore[import-untyped]

    travel._class_setstate(cls, state[:2])
    for name, attributes in state[2].items() if len(state) > 2 else ():
        vars(cls.__members__[name]).update(attributes)
    note_complete(cls)
