"""Pickles for a worker, and what such a pickle refers to.

What belongs to a module whose members travel as definitions becomes a reference, and the place that
it refers to is noted. Functions without a name go by value; their globals, the worker's, are noted
as well.
"""

from __future__ import annotations

import dis
import io
import marshal
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from pickle import PickleBuffer
from typing import Any, NamedTuple

from _offloop_worker import codec, namespace, rebuilding

__all__ = [
    "FIXED",
    "Pickled",
    "Key",
    "content_of",
    "is_a",
    "is_at",
    "is_at_home",
    "names_of",
    "pickle_for_worker",
    "space_name",
]


# (module, name); the name may be an attribute of a class: "Class.attribute".
Key = tuple[str, str]
FIXED: tuple[type, ...] = (
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    type(None),
    type(...),
    types.ModuleType,
    types.BuiltinFunctionType,
)
"""Objects of these kinds stay what they are."""

_GLOBAL_OPERATIONS = frozenset(
    ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL")
)


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """As `isinstance`, but the program's own code is not run: a proxy would be asked what it is."""
    return issubclass(type(value), kinds)


class Pickled(NamedTuple):
    """A pickle for a worker."""

    data: bytes
    uses: list[Key]
    """Every place that a worker must know before it uses the unpickled value."""
    references: list[Key]
    """The places among them that a worker must know before it can unpickle the value."""


class _Pickler(codec.ByValue):
    """Pickles for a worker, and notes the places that the pickle refers to."""

    uses: list[Key]
    references: list[Key]
    defining: Key | None

    def refer(self, obj: Any) -> tuple[Any, ...] | None:
        module = codec.home_of(obj)
        if module is None or not is_at(module, obj):
            return None
        path = namespace.path_of(obj)
        if self.defining is not None and self.defining[0] == module:
            own = self.defining[1]
            if path == own or path.startswith(f"{own}."):
                return None
        key = (module, path.partition(".")[0])
        self.uses.append(key)
        self.references.append(key)
        return namespace.find, (module, path)

    def reduce_function(self, function: types.FunctionType) -> Any:
        if codec.is_importable(function):
            return NotImplemented
        module = space_name(function)
        if module is None:
            # Its globals are no module's: they go with it, cloudpickle's way.
            return super().reduce_function(function)
        names, attributes = names_of(function.__code__)
        self.uses.extend((module, name) for name in names)
        if module != "__main__":
            self.uses.append((module, "__package__"))
        closure = function.__closure__
        cells = None if closure is None else len(closure)
        contents = tuple(content_of(cell) for cell in closure or ())
        space = function.__globals__
        values = [space[name] for name in names if name in space]
        values.extend(content[0] for content in contents if content)
        state = (
            function.__dict__,
            contents,
            _members(function),
            _submodules(values, attributes),
        )
        code = marshal.dumps(function.__code__)
        make = (code, module, function.__name__, cells)
        return rebuilding.make_function, make, state, None, None, rebuilding.set_function_state


class _SharingPickler(_Pickler):
    """Keeps the identity of objects that are globals themselves: sentinels, caches, instances."""

    shared: dict[int, Key]

    def persistent_id(self, obj: object) -> Key | None:
        key = self.shared.get(id(obj))
        if key is not None:
            self.uses.append(key)
            self.references.append(key)
        return key


_SHARING_ITEMS_MAX = 10_000
"""Larger containers are pickled without a look at each of their items."""


def _is_large(value: Any) -> bool:
    return type(value) in (list, dict, set, tuple) and len(value) > _SHARING_ITEMS_MAX


_UNSHARED = (*FIXED, types.FunctionType, type)


def shared_globals(module: str, may_refer: Callable[[Key], bool]) -> dict[int, Key]:
    """The globals of ``module`` that are objects of their own, by their ids."""
    return {
        id(value): (module, name)
        for name, value in list(vars(sys.modules[module]).items())
        if not is_a(value, _UNSHARED)
        and not (type(value) in (tuple, frozenset) and not value)
        and not name.startswith("__")
        and may_refer((module, name))
    }


def pickle_for_worker(
    value: object,
    buffer_callback: Callable[[PickleBuffer], Any] | None,
    defining: Key | None,
    shared: dict[int, Key] | None = None,
) -> Pickled:
    """Pickle ``value``; ``defining`` is the place whose value it is, which goes by value.

    Objects in ``shared`` (by their ids) become references to the places that hold them.

    Raises whatever the pickling of an object raises. May be called from any thread.
    """
    with io.BytesIO() as file:
        kind = _SharingPickler if shared and not _is_large(value) else _Pickler
        pickler = codec.pickler_class(kind)(file, protocol=5, buffer_callback=buffer_callback)
        pickler.uses, pickler.references = [], []
        pickler.defining, pickler.shared = defining, shared
        pickler.dump(value)
        return Pickled(file.getvalue(), pickler.uses, pickler.references)


def _members(function: types.FunctionType) -> dict[str, Any]:
    members = {
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__doc__": function.__doc__,
    }
    try:
        members["__annotations__"] = function.__annotations__
    except NameError:
        # From Python 3.14 on they are evaluated when asked for; these cannot be, here or there.
        members["__annotations__"] = {}
    return {name: value for name, value in members.items() if value}


def content_of(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def space_name(function: types.FunctionType) -> str | None:
    """The module whose globals are the function's, if any has them."""
    space = function.__globals__
    name = space.get("__name__")
    if name in codec.MAIN_NAMES:
        name = "__main__"
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if module is not None and vars(module) is space else None


def _submodules(values: Iterable[Any], attributes: frozenset[str]) -> list[str]:
    """Submodules of packages among ``values`` that the code uses as attributes."""
    prefixes = [
        f"{value.__name__}."
        for value in values
        if is_a(value, types.ModuleType) and getattr(value, "__path__", None) is not None
    ]
    if not prefixes:
        return []
    found = []
    for name, module in list(sys.modules.items()):
        for prefix in prefixes:
            rest = name.removeprefix(prefix)
            if rest != name and module is not None and attributes.issuperset(rest.split(".")):
                found.append(name)
    return found


_names: weakref.WeakKeyDictionary[types.CodeType, tuple[tuple[str, ...], frozenset[str]]]

_names = weakref.WeakKeyDictionary()


def names_of(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names that a function looks up in its module, and all names, attributes among them."""
    known = _names.get(code)
    if known is None:
        known = _names[code] = _read_names(code)
    return known


def _read_names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    names: dict[str, None] = {}
    attributes = set(code.co_names)
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS:
            names[instruction.argval] = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner, more = names_of(constant)
            names.update(dict.fromkeys(inner))
            attributes |= more
    return tuple(names), frozenset(attributes)


def is_at(module: str, obj: Any) -> bool:
    """Whether ``obj`` stands at its own name in ``module``."""
    held = sys.modules.get(module)
    return held is not None and codec.walk(held, namespace.path_of(obj)) is obj


def is_at_home(value: Any) -> bool:
    module = codec.home_of(value)
    return module is not None and is_at(module, value)
