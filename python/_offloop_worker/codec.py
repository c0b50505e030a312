"""How functions and objects travel that the plain pickler cannot name.

A function of an importable module goes by name. A lambda, a closure and everything defined in
``__main__`` goes by value, with cloudpickle, together with the globals that it uses.
"""

from __future__ import annotations

import builtins
import functools
import io
import sys
import types
from _pickle import dumps, loads

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any, TypeGuard

    Named = types.FunctionType | types.BuiltinFunctionType | type
    # (dictionary, key, object) or (cell, None, object).
    Place = tuple[Any, str | None, object]

__all__ = ["describe", "dumps_by_value", "is_remembered", "run_initializer"]

_FROZEN = (
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

# The body of a class that a function defines has names where a function has globals.
_GLOBAL_OPERATIONS = frozenset(
    ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL")
)


def dumps_by_value(value: object, buffer_callback: Callable[[PickleBuffer], Any] | None) -> bytes:
    """Pickle ``value`` with cloudpickle; a call's function object travels with it if need be.

    Sockets, connections and other descriptors travel as multiprocessing makes them travel.
    """
    import cloudpickle  # type: ignore[import-untyped]

    pickler = cloudpickle.Pickler
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is not None:
        reducers = reduction.ForkingPickler._extra_reducers
        table = pickler.dispatch_table.new_child(reducers)
        # The C pickler reads its table once, when it is made: from the class.
        pickler = type("Pickler", (pickler,), {"dispatch_table": table})
    with io.BytesIO() as file:
        pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def is_remembered(function: object) -> TypeGuard[Named]:
    """Whether workers remember ``function``; a method, a partial or an instance goes each time."""
    if not isinstance(function, (types.FunctionType, types.BuiltinFunctionType, type)):
        return False
    return isinstance(getattr(function, "__self__", None), (types.ModuleType, type(None)))


def run_initializer(pickled: bytes) -> None:
    """Run an initializer in a worker; what it assigns to globals of ``__main__`` stays there.

    Each function of ``__main__`` that arrives by value has globals of its own, as they were in the
    program. So what the initializer has assigned is laid over those of every later one.
    """
    if b"cloudpickle" not in pickled:
        initializer, arguments = _load(pickled)
        initializer(*arguments)
        return
    from cloudpickle import cloudpickle as travel

    set_state = travel._function_setstate
    namespaces: dict[int, dict[str, Any]] = {}
    assigned: dict[str, Any] = {}

    def note(function: types.FunctionType, state: Any) -> Any:
        namespaces[id(function.__globals__)] = function.__globals__
        return set_state(function, state)

    def lay_over(function: types.FunctionType, state: Any) -> Any:
        result = set_state(function, state)
        if function.__module__ == "__main__":
            function.__globals__.update(assigned)
        return result

    travel._function_setstate = note
    try:
        initializer, arguments = _load(pickled)
    finally:
        travel._function_setstate = set_state
    before = [(namespace, dict(namespace)) for namespace in namespaces.values()]
    initializer(*arguments)
    missing = object()
    for namespace, old in before:
        changed = (name for name in namespace if old.get(name, missing) is not namespace[name])
        assigned.update({name: namespace[name] for name in changed})
    assigned.pop("__builtins__", None)
    if assigned:
        travel._function_setstate = lay_over


def _load(pickled: bytes) -> Any:
    """Unpickle; a module that is imported for it must not use a pool meanwhile."""
    from _offloop_worker import _offloop

    _offloop.set_importing(True)
    try:
        return loads(pickled)
    finally:
        _offloop.set_importing(False)


def describe(function: object) -> tuple[str, bytes, list[Place] | None] | None:
    """What workers are to remember of ``function``: (name, pickle, places), or None.

    ``places`` lists (dictionary, key, object) and (cell, None, object): the pickle is good as long
    as each place still holds that very object. An empty list means for ever; None means that the
    function uses something that can change in place, so that it is to be described each time.
    """
    if not is_remembered(function):
        return None
    name = f"{function.__module__}.{function.__qualname__}"
    if _is_importable(function):
        return name, dumps(function, 5), []
    places: list[Place] | None = None
    if isinstance(function, types.FunctionType):
        found: list[Place] = []
        if _collect(function, found, {id(function)}):
            # Nothing to compare: a place that never changes keeps the entry from looking permanent.
            namespace = function.__globals__
            places = found or [(namespace, "__builtins__", namespace["__builtins__"])]
    return name, dumps_by_value(function, None), places


def _is_importable(function: Named) -> bool:
    """Whether a worker finds ``function`` by importing its module and walking its name."""
    module = sys.modules.get(function.__module__ or "")
    if module is None or function.__module__ == "__main__":
        return False
    try:
        found: object = functools.reduce(getattr, function.__qualname__.split("."), module)
    except AttributeError:
        return False
    return found is function


def _collect(function: types.FunctionType, places: list[Place], seen: set[int]) -> bool:
    """Collect the places that ``function`` reads; False when one holds something changeable."""
    namespace = function.__globals__
    for name in _global_names(function.__code__):
        if name in namespace:
            value = namespace[name]
            places.append((namespace, name, value))
            if not _is_fixed(value, places, seen):
                return False
        elif not hasattr(builtins, name):
            # It may be defined by the time of a later call; then the function must be sent anew.
            return False
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:
            return False
        places.append((cell, None, value))
        if not _is_fixed(value, places, seen):
            return False
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    attributes = not function.__dict__
    return attributes and all(_is_fixed(value, places, seen) for value in defaults)


def _global_names(code: types.CodeType) -> set[str]:
    """The names that a function looks up in its module; ``co_names`` has attributes among them."""
    import dis

    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in _GLOBAL_OPERATIONS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _is_fixed(value: object, places: list[Place], seen: set[int]) -> bool:
    """Whether ``value`` stays what it is for as long as the same object stands there."""
    if isinstance(value, _FROZEN) and type(value).__module__ != "__main__":
        return True
    if isinstance(value, (tuple, frozenset)) and type(value) in (tuple, frozenset):
        return all(_is_fixed(item, places, seen) for item in value)
    if isinstance(value, types.FunctionType):
        if id(value) in seen or _is_importable(value):
            return True
        seen.add(id(value))
        return _collect(value, places, seen)
    return isinstance(value, type) and _is_importable(value)
