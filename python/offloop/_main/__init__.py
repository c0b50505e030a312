"""How calls reach what belongs to the program's main module: the door to this package.

``module`` decides whether workers import it; ``places`` knows what they have been told of it;
``pickling`` writes references to it.
"""

from __future__ import annotations

import builtins
import types
from _pickle import dumps
from collections.abc import Callable
from pickle import PickleBuffer, PicklingError
from typing import Any

from _offloop_worker import codec
from _offloop_worker._offloop import Definition
from offloop._main.module import examine, main_module
from offloop._main.pickling import Key, Pickled, is_at_home, pickle_for_worker
from offloop._main.places import (
    Check,
    Place,
    Probe,
    is_unbound,
    known,
    look,
    seconds,
    watch_function,
)

__all__ = ["costs", "describe", "dumps_for_worker", "examine", "main_module"]


NEEDS_MAX = 1024
"""As in the runtime: a worker's ring must hold all that one call needs."""


class _Needs:
    """The places that a call uses, each once."""

    def __init__(self, user: str, pickled: Pickled) -> None:
        self.places: list[Place] = []
        waiting = list(pickled.uses)
        seen = set(waiting)
        while waiting:
            key = waiting.pop()
            if is_unbound(key):
                continue
            place = look(key, user)
            if place is None:
                continue
            self.places.append(place)
            fresh = [used for used in place.uses if used not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        for module, path in pickled.references:
            place = known((module, path))
            if place is not None and place.unsent is not None:
                raise PicklingError(f"{module}.{path} cannot be sent to a worker: {place.unsent}")

    def definitions(self) -> tuple[Definition, ...]:
        """What a worker must have, in no order: each is put in place when it is referred to."""
        found = tuple(place.definition for place in self.places if place.definition is not None)
        if len(found) > NEEDS_MAX:
            raise PicklingError(
                f"the call uses {len(found)} names of its main module that workers must be sent, "
                f"limit {NEEDS_MAX}: move them into a module that workers import"
            )
        return found


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
    pickled = pickle_for_worker(function, None, None)
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


def costs() -> dict[tuple[str, Key], float]:
    """Seconds spent on pickling each place, by the function for whose calls it was done."""
    return seconds()
