"""How calls reach what belongs to the program's main module: the door to this package.

``module`` decides whether workers import it; ``places`` knows what they have been told of it;
``pickling`` writes references to it.
"""

from __future__ import annotations

import atexit
import builtins
import sys
import types
from _pickle import dumps
from collections.abc import Callable
from pickle import PickleBuffer, PicklingError
from typing import Any

from _offloop_worker import _offloop, codec
from _offloop_worker._offloop import Definition
from offloop._main.module import examine, main_module
from offloop._main.pickling import (
    FIXED,
    Key,
    Pickled,
    is_a,
    is_at_home,
    pickle_for_worker,
    shared_globals,
    space_name,
)
from offloop._main.places import (
    Check,
    Place,
    Probe,
    clear,
    is_unbound,
    known,
    look,
    seconds,
    watch_function,
)

__all__ = ["costs", "describe", "dumps_for_worker", "examine", "main_module"]


NEEDS_MAX = 3072
"""As in the runtime: a worker's ring must hold all that one call needs."""


class _Needs:
    """The places that a call uses, each once."""

    def __init__(self, user: str, pickled: Pickled) -> None:
        self.places: list[Place] = []
        waiting = sorted(pickled.uses, key=_is_class)
        seen = set(waiting)
        while waiting:
            key = waiting.pop()
            if is_unbound(key):
                continue
            place = look(key, user)
            if place is None:
                continue
            self.places.append(place)
            fresh = sorted((used for used in place.uses if used not in seen), key=_is_class)
            seen.update(fresh)
            waiting.extend(fresh)
        for module, path in pickled.references:
            place = known((module, path))
            if place is not None and place.unsent is not None:
                raise PicklingError(f"{module}.{path} cannot be sent to a worker: {place.unsent}")

    def definitions(self) -> tuple[Definition, ...]:
        """What a worker must have, each put in place when it is referred to, or in this order.

        Some definitions run code as they are unpickled, and what that code uses comes first:
        modules and constants, containers, functions, classes.
        """
        sent = [place for place in self.places if place.definition is not None]
        sent.sort(key=_rank)
        found = tuple(place.definition for place in sent if place.definition is not None)
        if len(found) > NEEDS_MAX:
            raise PicklingError(
                f"the call uses {len(found)} names of its main module that workers must be sent, "
                f"limit {NEEDS_MAX}: move them into a module that workers import"
            )
        return found


def _is_class(key: Key) -> bool:
    """Classes are looked at first, that is they come last: instances refer to them in any case."""
    module, path = key
    return is_a(vars(sys.modules[module]).get(path) if module in sys.modules else None, type)


def _rank(place: Place) -> int:
    if is_a(place.value, FIXED):
        return 0
    kind = type(place.value)
    if kind in (list, dict, set, tuple, frozenset, bytearray):
        return 1
    if kind is types.FunctionType:
        return 2
    return 3 if issubclass(kind, type) else 4


def dumps_for_worker(
    value: object, buffer_callback: Callable[[PickleBuffer], Any] | None
) -> tuple[bytes, tuple[Definition, ...]]:
    """Pickle ``value`` for a worker, with the definitions that it must have before."""
    pickled = pickle_for_worker(value, buffer_callback, None)
    return pickled.data, _Needs("arguments", pickled).definitions()


Description = tuple[str, bytes, tuple[Definition, ...], list[Check] | None, list[Probe]]


def describe(function: Any) -> Description | None:
    """What workers are to remember of ``function``; None when it is pickled with its arguments.

    (name, pickle, definitions that it needs, checks, probes): the pickle is good as long as every
    check and every probe holds. No checks mean for ever; None means that it is to be described
    each time.
    """
    if not codec.is_remembered(function):
        return None
    name = f"{function.__module__}.{function.__qualname__}"
    if codec.is_importable(function):
        return name, dumps(function, 5), (), [], []
    home = space_name(function) if isinstance(function, types.FunctionType) else None
    by_value = home is not None and not is_at_home(function)
    shared = shared_globals(home, lambda _key: True) if home is not None and by_value else None
    pickled = pickle_for_worker(function, None, None, shared)
    needs = _Needs(name, pickled)
    own = Place(("", ""), {}, "", None)
    own.checks.clear()
    if not is_at_home(function):
        if isinstance(function, types.FunctionType):
            watch_function(own, function, len(pickled.data), set())
        else:
            own.volatile = True
    places = [own, *needs.places]
    # Nothing to compare: a place that never changes keeps the entry from looking permanent.
    checks: list[Check] = [(vars(builtins), "__name__", builtins.__name__)]
    checks.extend(check for place in places for check in place.checks)
    probes = [probe for place in places for probe in place.probes]
    probes.extend(
        (vars(place.value), place.attributes) for place in places if place.attributes is not None
    )
    is_volatile = any(place.volatile for place in places)
    return name, pickled.data, needs.definitions(), None if is_volatile else checks, probes


def forget() -> None:
    """Let go of the program's objects, which would otherwise outlive the end of its module."""
    clear()
    _offloop.forget_functions()


# Registered before the runtime's own end, so that it runs after that.
atexit.register(forget)


def costs() -> dict[tuple[str, Key], float]:
    """Seconds spent on pickling each place, by the function for whose calls it was done."""
    return seconds()
