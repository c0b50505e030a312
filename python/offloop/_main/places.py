"""Places: the names of ``__main__`` that calls use, each told to workers once for each version.

A *place* is a global of a module whose members travel as definitions, or an attribute of a class
there. Such modules are ``__main__`` and those given to ``cloudpickle.register_pickle_by_value``.
What a call uses is followed from place to place: names in code, references in values, methods of
classes. Each place that workers cannot have by an import is sent as a definition. It is sent again
when it has changed:

- rebound to another object;
- changed in place, if its pickle takes at most `SMALL_BYTES_MAX`; of larger ones only the length is
  compared.

`_offloop_worker.namespace` is the other end.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
import types
from _pickle import dumps
from collections.abc import Iterable
from enum import Enum
from pickle import PicklingError
from typing import Any

from _offloop_worker import _offloop, codec
from _offloop_worker._offloop import Definition
from _offloop_worker.namespace import DELETED, IMPORTED, SOFT, UNSENT, VALUE
from _offloop_worker.plain import SMALL_BYTES_MAX, is_plain
from offloop._main.following import fate_of, functions_in, is_named
from offloop._main.module import main_module
from offloop._main.pickling import (
    FIXED,
    Key,
    Pickled,
    content_of,
    is_a,
    is_at,
    is_at_home,
    names_of,
    pickle_for_worker,
    shared_globals,
    space_name,
)

__all__ = [
    "Check",
    "Place",
    "Probe",
    "clear",
    "is_unbound",
    "known",
    "look",
    "seconds",
    "watch_function",
]


MISSING = _offloop.MISSING
"""Stands in a check for a name that is not bound."""
# (dictionary, class or cell; name; object), and (object, its pickle or its length).
Check = tuple[Any, Any, object]
Probe = tuple[object, bytes | int]
# What a class has that is no attribute of its own making, or that never changes.
_SHARED_ATTRIBUTES = frozenset(
    (
        *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__"),
        *("__static_attributes__", "__annotations__", "__annotate__", "__annotate_func__"),
        *("__annotations_cache__", "__slots__", "__abstractmethods__", "_abc_impl"),
        *("__parameters__", "__orig_bases__", "__match_args__", "__type_params__"),
    )
)


class Place:
    """One name, and what workers were told of it."""

    __slots__ = (
        "attributes",
        "checks",
        "container",
        "data",
        "definition",
        "key",
        "name",
        "probes",
        "references",
        "unsent",
        "uses",
        "value",
        "volatile",
    )

    def __init__(self, key: Key, container: Any, name: str, value: object) -> None:
        self.key = key
        self.container = container
        self.name = name
        self.value = value
        self.definition: Definition | None = None
        self.data: bytes | None = None
        self.uses: list[Key] = []
        self.references: list[Key] = []
        self.checks: list[Check] = [(container, name, value)]
        self.probes: list[Probe] = []
        self.volatile = False
        # Why it cannot be pickled, if it cannot.
        self.unsent: str | None = None
        # How many a class had when its attributes were noted as places.
        self.attributes: int | None = None

    def is_unchanged(self) -> bool:
        return (
            not self.volatile and all(map(_holds, self.checks)) and all(map(_equals, self.probes))
        )


def _holds(check: Check) -> bool:
    container, name, value = check
    if isinstance(container, types.CellType):
        content = content_of(container)
        return (content[0] if content else MISSING) is value
    return _vars_of(container).get(name, MISSING) is value


def _vars_of(container: Any) -> Any:
    """The names of a class or of a module's globals."""
    return vars(container) if isinstance(container, type) else container


def _equals(probe: Probe) -> bool:
    value, seen = probe
    if isinstance(seen, int):
        return len(value) == seen  # type: ignore[arg-type]
    return _plain_pickle(value) == seen


def _plain_pickle(value: object) -> bytes | None:
    try:
        return dumps(value, 5)
    except Exception:
        # Whatever its own pickling raises: it is pickled by value then, which tells.
        return None


_table: dict[Key, Place] = {}
_kept_for_ever: list[object] = []
_seconds: dict[tuple[str, Key], float] = {}
_SECONDS_MAX = 1000


def _forget_all() -> None:
    # A forked child's runtime is another one, which knows none of these; the parent's locks, which
    # dropping them would take, may be held for ever here.
    _kept_for_ever.append((dict(_table),))
    _table.clear()


os.register_at_fork(after_in_child=_forget_all)


def clear() -> None:
    """Forget every place."""
    _table.clear()


def is_unbound(key: Key) -> bool:
    """Whether a name is bound to nothing here, and was not before: a built-in, as a rule."""
    module, path = key
    held = getattr(sys.modules.get(module), "__dict__", {})
    return path in vars(builtins) and path not in held and key not in _table


def seconds() -> dict[tuple[str, Key], float]:
    """Seconds spent on pickling each place, by the function for whose calls it was done."""
    return dict(_seconds)


def _locate(key: Key) -> tuple[Any, str, object] | None:
    module = sys.modules.get(key[0])
    if module is None:
        return None
    owner, _, name = key[1].rpartition(".")
    container: Any = vars(module)
    if owner:
        container = codec.walk(module, owner)
        if not isinstance(container, type):
            return None
    return container, name, _vars_of(container).get(name, MISSING)


def known(key: Key) -> Place | None:
    """The place as it was when it was last looked at."""
    return _table.get(key)


def look(key: Key, user: str) -> Place | None:
    """The place as workers are to know it now."""
    place = _table.get(key)
    if place is not None and place.is_unchanged() and _locate_same(place):
        if place.attributes is not None and len(vars(place.value)) != place.attributes:
            _note_attributes(place, place.value)  # type: ignore[arg-type]
        return place
    located = _locate(key)
    if located is None:
        return None
    container, name, value = located
    begun = time.perf_counter()
    fresh = Place(key, container, name, value)
    _fill(fresh, place)
    _table[key] = fresh
    if len(_table) > _sweep.at:
        _sweep()
    spent = time.perf_counter() - begun
    if fresh.definition is not None and len(_seconds) < _SECONDS_MAX:
        _seconds[user, key] = _seconds.get((user, key), 0.0) + spent
    return fresh


class _Sweep:
    """Forgets places whose names were deleted, whenever the table has doubled."""

    at = 4096

    def __call__(self) -> None:
        for key in list(_table):
            module, path = key
            held = getattr(sys.modules.get(module), "__dict__", {})
            if path.partition(".")[0] not in held:
                _table.pop(key, None)
        self.at = max(4096, 2 * len(_table))


_sweep = _Sweep()


def _locate_same(place: Place) -> bool:
    """Whether the class that a place belongs to still stands at its name."""
    if not isinstance(place.container, type):
        return True
    located = _locate(place.key)
    return located is not None and located[0] is place.container


def _fill(place: Place, previous: Place | None) -> None:
    module, path = place.key
    value = place.value
    if previous is not None and previous.container is not place.container:
        previous = None
    if value is MISSING:
        if previous is not None and previous.value is not MISSING:
            _define(place, DELETED, b"", b"")
        return
    main = main_module() if module == "__main__" else None
    if main is not None and main.is_imported:
        fate, mark = fate_of(path, value, previous is not None, main)
        if fate is None:
            _follow(place, value)
            if previous is not None and previous.definition is not None:
                # It was another one meanwhile; workers have kept what their import made.
                _define(place, IMPORTED, b"", b"")
            return
    else:
        fate, mark = VALUE, b""
    is_rebound = previous is not None and previous.value is not value
    is_program_s = main is None or not main.is_imported
    if fate == VALUE and not (
        is_program_s and "." not in path and (previous is None or is_rebound)
    ):
        # What the worker's own calls have changed stays; but a script's names are the script's.
        fate = SOFT
    _send(place, previous, fate, mark)


def _follow(place: Place, value: Any) -> None:
    """Note what a value that workers have by their import uses, and how it may change."""
    path = place.key[1]
    if is_a(value, type) and is_at_home(value):
        if value.__qualname__ != path:
            # It has a place of its own.
            place.uses.extend(_places_of((value,)))
            return
        _note_attributes(place, value)
        place.uses.extend(_places_of(value.__mro__[1:]))
    for function in functions_in(value, set()):
        module = space_name(function)
        if module is not None and (module == "__main__" or codec.home_of(function) is not None):
            place.uses.extend((module, name) for name in names_of(function.__code__)[0])
    if not is_named(value) and not is_a(value, FIXED):
        plain = _plain_pickle(value) if is_plain(value) else None
        if plain is not None and len(plain) <= SMALL_BYTES_MAX:
            place.probes.append((value, plain))


def _note_attributes(place: Place, cls: type) -> list[Key]:
    """Make each attribute of a class a place that the class uses."""
    if issubclass(cls, Enum):
        return []
    module, path = place.key
    names = [name for name in vars(cls) if name not in _SHARED_ATTRIBUTES]
    keys = [(module, f"{path}.{name}") for name in names]
    place.uses = [*place.uses, *(key for key in keys if key not in place.uses)]
    place.attributes = len(vars(cls))
    return keys


def _send(place: Place, previous: Place | None, kind: int, mark: bytes) -> None:
    module, path = place.key
    value: Any = place.value
    try:
        data, place.uses, place.references = _pickle(value, place.key)
        _require(place.key, place.references)
    except Exception as error:
        # Its own pickling may raise anything. Where it is used, the text says so.
        main = main_module()
        if module == "__main__" and main.is_imported and path.partition(".")[0] in main.bound:
            if previous is not None and previous.definition is not None:
                _define(place, IMPORTED, b"", b"")
            return
        place.unsent = f"{type(error).__name__}: {error}"
        if is_a(value, (list, dict, set)):
            place.probes.append((value, len(value)))
        _define(place, UNSENT, b"", place.unsent.encode())
        return
    is_class = is_a(value, type) and codec.home_of(value) is not None
    if is_class and is_at(module, value) and value.__qualname__ == path:
        _include_attributes(place, value)
    else:
        _watch(place, value, len(data), set())
    if place.volatile and previous is not None and previous.data == data:
        place.definition, place.data = previous.definition, data
        return
    _define(place, kind, mark, data)


_ATTEMPTS = 10


def _pickle(value: object, key: Key) -> Pickled:
    """Pickle a value that other threads may be changing meanwhile."""
    shared = shared_globals(key[0], lambda other: _may_refer(key, other))
    if shared.get(id(value)) == key:
        del shared[id(value)]
    for _ in range(_ATTEMPTS - 1):
        try:
            return pickle_for_worker(value, None, key, shared)
        except RuntimeError as error:
            if "changed size during iteration" not in str(error):
                raise
    return pickle_for_worker(value, None, key, shared)


def _may_refer(key: Key, other: Key) -> bool:
    """Whether the pickle of ``key`` may refer to ``other``, which must then be there before it."""
    if other == key or (threading.get_ident(), other) in _being_sent:
        return False
    waiting, seen = [other], {other}
    while waiting:
        place = _table.get(waiting.pop())
        for reference in place.references if place is not None else ():
            if reference == key:
                return False
            if reference not in seen:
                seen.add(reference)
                waiting.append(reference)
    return True


_being_sent: set[tuple[int, Key]] = set()


def _require(key: Key, references: list[Key]) -> None:
    """See to it that what a pickle cannot do without can be sent; raises `PicklingError`."""
    mine = (threading.get_ident(), key)
    _being_sent.add(mine)
    try:
        for reference in references:
            if (mine[0], reference) not in _being_sent:
                place = look(reference, ".".join(key))
                if place is not None and place.unsent is not None:
                    raise PicklingError(f"{'.'.join(reference)} cannot be pickled: {place.unsent}")
    finally:
        _being_sent.discard(mine)


def _define(place: Place, kind: int, mark: bytes, data: bytes) -> None:
    module, path = place.key
    is_class = kind in (VALUE, SOFT) and is_a(place.value, type)
    value: Any = place.value
    # The classes that must be there before this one can be made.
    before = _places_of((*value.__bases__, type(value))) if is_class else []
    place.definition = Definition(dumps((module, path, kind, mark, before, data), 5))
    if place.volatile:
        place.data = data


def _places_of(classes: Iterable[type]) -> list[Key]:
    """The places of those among some classes that are sent as definitions."""
    return [
        (module, cls.__qualname__.partition(".")[0])
        for cls in classes
        if (module := codec.home_of(cls)) is not None and is_at(module, cls)
    ]


def _include_attributes(place: Place, cls: type) -> None:
    """The attributes of a class that is sent as a whole went with it, as they are now."""
    for key in _note_attributes(place, cls):
        located = _locate(key)
        if located is not None:
            attribute = _table[key] = Place(key, *located)
            _watch(attribute, attribute.value, 0, set())
            # Whatever in it cannot be compared went with the class, once.
            attribute.volatile = False


def _watch(place: Place, value: Any, size: int, seen: set[int]) -> None:
    """Note how a value that was sent may change in place."""
    if is_a(value, FIXED) or id(value) in seen:
        return
    seen.add(id(value))
    kind = type(value)
    if kind in (tuple, frozenset) and size <= SMALL_BYTES_MAX:
        for item in value:
            _watch(place, item, size, seen)
    elif kind is types.FunctionType:
        if codec.is_importable(value) or (len(seen) > 1 and is_at_home(value)):
            return
        for cell in value.__closure__ or ():
            content = content_of(cell)
            place.checks.append((cell, None, content[0] if content else MISSING))
            for inner in content:
                _watch(place, inner, size, seen)
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        for inner in (*defaults, *value.__dict__.values()):
            _watch(place, inner, size, seen)
    elif is_a(value, type):
        # Of a class of the program every attribute is a place; a local one is sent as it was.
        return
    elif size > SMALL_BYTES_MAX:
        if kind in (list, dict, set, bytearray):
            place.probes.append((value, len(value)))
    else:
        plain = _plain_pickle(value)
        if plain is None:
            place.volatile = True
        elif len(plain) <= SMALL_BYTES_MAX:
            place.probes.append((value, plain))
        else:
            _watch(place, value, len(plain), seen - {id(value)})


def watch_function(place: Place, value: Any, size: int, seen: set[int]) -> None:
    """As `_watch`; of a function whose globals are no module's, with the globals that it uses."""
    if is_a(value, types.FunctionType) and space_name(value) is None and id(value) not in seen:
        space = value.__globals__
        for name in names_of(value.__code__)[0]:
            if name in space:
                place.checks.append((space, name, space[name]))
                watch_function(place, space[name], size, seen | {id(value)})
            elif not hasattr(builtins, name):
                place.checks.append((space, name, MISSING))
    _watch(place, value, size, seen)
