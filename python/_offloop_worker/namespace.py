"""A worker's ``__main__``: one namespace, in which the program's definitions are laid.

The program numbers what it sends: a global of ``__main__`` (its functions and classes among them),
or an attribute of a class of ``__main__``. A call names the numbers that it needs. Before the call
runs, each definition that is not in place yet is bound to its name. What is in place stays as the
worker's own calls have left it.

A guarded main module is imported here, in the zygote; then the program sends only what it has bound
since. A value that may still be as imported goes with a fingerprint, which is compared here.

Invariants: 1. One definition is in place at a name at a time; entering a call changes no name whose
               definition is the wanted one.
            2. A class that was made, or sent, by this process is never filled a second time.
            3. What an initializer has changed is this worker's own: no definition replaces it.
"""

from __future__ import annotations

import sys
import types
from _pickle import Unpickler, loads
from io import BytesIO

from _offloop_worker.plain import fingerprint
from _offloop_worker.unsent import Unsent, refuse

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    # (module, name); the name may be an attribute of a class: "Class.attribute".
    Key = tuple[str, str]

__all__ = [
    "DELETED",
    "IMPORTED",
    "MAYBE",
    "SOFT",
    "UNSENT",
    "VALUE",
    "announce",
    "enter",
    "find",
    "forget",
    "homes",
    "is_being_bound",
    "is_from_program",
    "load",
    "members",
    "note_import",
    "own",
    "path_of",
    "space_of",
    "use_main",
]


VALUE, SOFT, MAYBE, DELETED, UNSENT, IMPORTED = range(6)
"""Kinds of definitions.

VALUE: the program has bound it to a name.
SOFT: the program has changed it in place; it does not replace what this worker has changed itself.
MAYBE: as SOFT, unless the value here is as imported.
DELETED: the name has no value any more.
UNSENT: the value could not be sent.
IMPORTED: what the import has made.
"""


class _Definition:
    __slots__ = ("before", "data", "key", "kind", "loaded", "mark", "value")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.loaded = False
        self.value: object = None
        self.key: Key = ("", "")
        self.kind = VALUE
        self.mark = b""
        # The bases of a class, which must be there before it can be begun.
        self.before: list[Key] = []

    def open(self) -> None:
        """Read the header; the value itself is unpickled when it is bound."""
        module, path, self.kind, self.mark, self.before, self.data = loads(self.data)
        self.key = (module, path)


_definitions: dict[int, _Definition] = {}
_current: dict[Key, int] = {}
_wanted: dict[Key, int] = {}
_being_bound: set[int] = set()
_namespaces: dict[str, dict[str, Any]] = {}
_owned: set[Key] = set()
_imported: frozenset[str] = frozenset()
_marks: dict[Key, bytes] = {}
# Names whose definition is forgotten, the oldest first.
_orphans: dict[Key, int] = {}
_ORPHANS_MAX = 256
_originals: dict[Key, object] = {}


def announce(number: int, data: bytes) -> None:
    """Take a definition that the program has sent."""
    if number not in _definitions:
        definition = _definitions[number] = _Definition(data)
        definition.open()


def forget(numbers: Iterable[int]) -> None:
    """Drop definitions that the program will not name again; what they bound stays for a while."""
    for number in numbers:
        definition = _definitions.pop(number, None)
        if definition is not None and _current.get(definition.key) == number:
            _orphans[definition.key] = number
    while len(_orphans) > _ORPHANS_MAX:
        key, number = next(iter(_orphans.items()))
        del _orphans[key]
        if _current.get(key) == number and key not in _owned:
            # Most likely its name is gone from the program; if not, its next version comes.
            del _current[key]
            _marks.pop(key, None)
            if "." not in key[1]:
                space_of(key[0]).pop(key[1], None)


def enter(numbers: tuple[int, ...]) -> None:
    """Put the definitions of a call in place."""
    global _wanted
    _wanted = {_definitions[number].key: number for number in numbers}
    for key, number in _wanted.items():
        if _current.get(key) != number:
            try:
                _bind(number)
            except Exception as error:
                # Perhaps the call does not even use it; if it does, it says so.
                _store_unsent(number, f"{type(error).__name__}: {error}")


def _bind(number: int) -> None:
    definition = _definitions[number]
    key = definition.key
    if key in _owned or number in _being_bound:
        return
    if definition.kind == MAYBE and key not in _current and _marks.get(key) == definition.mark:
        _current[key] = number
        return
    if definition.kind in (SOFT, MAYBE) and _is_changed_here(key):
        _current[key] = number
        return
    for base in definition.before:
        wanted = _wanted.get(base)
        if wanted is not None and _current.get(base) != wanted:
            _bind(wanted)
    if _current.get(key) == number:
        # One of its bases refers to it.
        return
    _being_bound.add(number)
    try:
        if not definition.loaded and definition.kind in (VALUE, SOFT, MAYBE):
            definition.value = load(definition.data)
            definition.data, definition.loaded = b"", True
        if definition.kind == IMPORTED:
            definition.value = _originals.get(key)
        _store(definition)
        _current[key] = number
        for place, value in _with_attributes(key, definition.value):
            _mark(place, value)
    finally:
        _being_bound.discard(number)


def _store_unsent(number: int, reason: str) -> None:
    key = module, path = _definitions[number].key
    owner, _, name = path.rpartition(".")
    if owner:
        type.__setattr__(find(module, owner), name, Unsent(path, reason))
    else:
        space_of(module)[name] = Unsent(path, reason)
    _current[key] = number


class _Unpickler(Unpickler):
    """Reads references to globals that are objects of their own."""

    def persistent_load(self, key: Key) -> Any:
        return find(*key)


def load(data: bytes) -> Any:
    """Unpickle what the program has pickled for this namespace."""
    return _Unpickler(BytesIO(data)).load()


def is_being_bound(key: Key) -> bool:
    """Whether the wanted definition of a name is being put in place now."""
    return _wanted.get(key) in _being_bound


def homes() -> tuple[str, ...]:
    """The modules whose members come as definitions."""
    return ("__main__", "__mp_main__", *_namespaces)


def use_main(main: types.ModuleType) -> None:
    """Make ``main`` the module to which the definitions of ``__main__`` belong."""
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    _namespaces["__main__"] = vars(main)


def note_import(names: Iterable[str]) -> None:
    """Remember what an import has bound, and how it is."""
    global _imported
    _imported = frozenset(names)
    for key, value in members():
        _originals[key] = value
        _mark(key, value)


def own(key: Key) -> None:
    """Keep what stands at a name from ever being replaced by a definition."""
    _owned.add(key)


def _is_changed_here(key: Key) -> bool:
    """Whether this worker's calls have changed what was put in place, or imported."""
    mark = _marks.get(key)
    if mark is None:
        return False
    module, path = key
    owner, _, name = path.rpartition(".")
    held = vars(find(module, owner)) if owner else space_of(module)
    return fingerprint(held.get(name)) != mark


def _mark(key: Key, value: object) -> None:
    mark = fingerprint(value)
    if mark is None:
        _marks.pop(key, None)
    else:
        _marks[key] = mark


def _with_attributes(key: Key, value: object) -> Iterable[tuple[Key, object]]:
    yield key, value
    module, name = key
    # Not `isinstance`, which would ask the object that stands for an unsent global.
    if issubclass(type(value), type):
        cls: Any = value
        if cls.__qualname__ != name or cls.__module__ not in (module, "__mp_main__"):
            return
        for attribute, content in list(vars(value).items()):
            yield (module, f"{name}.{attribute}"), content


def members() -> Iterable[tuple[Key, object]]:
    """Every global of the namespaces, and every attribute of the classes among them."""
    for module, space in _namespaces.items():
        for name, value in list(space.items()):
            yield from _with_attributes((module, name), value)


def _store(definition: _Definition) -> None:
    module, path = definition.key
    owner, _, name = path.rpartition(".")
    if definition.kind == UNSENT:
        if module == "__main__" and not owner and name in _imported:
            # It was made by the import, if not to the program's present state.
            return
        definition.value = Unsent(path, definition.data.decode())
    if not owner:
        space = space_of(module)
        if definition.kind == DELETED:
            space.pop(name, None)
        else:
            space[name] = definition.value
        return
    cls: Any = find(module, owner)
    if definition.kind != DELETED:
        # A metaclass may refuse or twist assignments, as Enum's does.
        type.__setattr__(cls, name, definition.value)
    elif name in vars(cls):
        type.__delattr__(cls, name)


def space_of(module: str) -> dict[str, Any]:
    """The globals of what comes from ``module`` as definitions."""
    space = _namespaces.get(module)
    if space is None:
        if module == "__main__":
            space = vars(sys.modules["__main__"])
        else:
            space = vars(types.ModuleType(module))
            space["__builtins__"] = vars(sys.modules["builtins"])
        _namespaces[module] = space
    return space


def find(module: str, path: str) -> Any:
    """What stands at a dotted name of ``module``, put in place first if a definition is wanted."""
    root, _, rest = path.partition(".")
    number = _wanted.get((module, root))
    if number is not None and _current.get((module, root)) != number:
        _bind(number)
    space = _namespaces.get(module)
    if space is None or root not in space:
        __import__(module)
        space = vars(sys.modules[module])
    try:
        found = space[root]
    except KeyError:
        text = f"module {module!r} has no {root!r} in this process"
        raise AttributeError(text, name=root, obj=sys.modules.get(module)) from None
    if type(found) is Unsent:
        refuse(found)
    for name in rest.split(".") if rest else ():
        found = getattr(found, name)
    return found


def path_of(obj: Any) -> str:
    """The dotted name of a function, a class or a type variable, in its module."""
    path: str = getattr(obj, "__qualname__", None) or obj.__name__
    return path


def is_from_program(module: str, obj: Any) -> bool:
    """Whether the program has ``obj`` under its name: it was imported as there, or sent."""
    root, _, rest = path_of(obj).partition(".")
    if not (module == "__main__" and root in _imported) and (module, root) not in _current:
        return False
    found = _namespaces.get(module, {}).get(root)
    for name in rest.split(".") if rest else ():
        found = getattr(found, name, None)
    return found is obj
