"""How objects travel that the plain pickler cannot name: by value, or as something sent before.

A function of an importable module goes by name. A lambda, a closure or a local class goes by value,
its code as the interpreter's own bytes, so that its file and its lines stay known. What belongs to
``__main__`` goes as a reference, which the other side finds in its own ``__main__``: see
``namespace``.
"""

from __future__ import annotations

import contextlib
import functools
import io
import marshal
import sys
import types

from _offloop_worker import namespace, rebuilding

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any, TypeGuard

    Named = types.FunctionType | types.BuiltinFunctionType | type
    Reduction = tuple[Any, ...]

__all__ = [
    "ByValue",
    "is_remembered",
    "dumps_by_value",
    "home_of",
    "is_importable",
    "pickler_class",
    "walk",
]

MAIN_NAMES = ("__main__", "__mp_main__")
"""Names of the main module: the second is its name where it was imported, in workers."""


def dumps_by_value(value: object, buffer_callback: Callable[[PickleBuffer], Any] | None) -> bytes:
    """Pickle ``value`` for the program: what the program has sent goes back as a reference.

    Sockets, connections and other descriptors travel as multiprocessing makes them travel.
    """
    with io.BytesIO() as file:
        pickler = pickler_class(ByValue)(file, protocol=5, buffer_callback=buffer_callback)
        pickler.dump(value)
        return file.getvalue()


def is_remembered(function: object) -> TypeGuard[Named]:
    """Whether workers remember ``function``; a method, a partial or an instance goes each time."""
    if not isinstance(function, (types.FunctionType, types.BuiltinFunctionType, type)):
        return False
    return isinstance(getattr(function, "__self__", None), (types.ModuleType, type(None)))


def pickler_class(base: Any) -> Any:
    """A pickler with the rules of ``base``; its C half reads the table from the class."""
    reduction = sys.modules.get("multiprocessing.reduction")
    reducers = None if reduction is None else reduction.ForkingPickler._extra_reducers
    return _make_pickler_class(base, None if reducers is None else tuple(reducers.items()))


@functools.lru_cache(maxsize=8)
def _make_pickler_class(base: Any, reducers: tuple[Any, ...] | None) -> Any:
    import cloudpickle  # type: ignore[import-untyped]

    table = cloudpickle.Pickler.dispatch_table.new_child()
    table.update((kind, reducer) for kind, reducer in reducers or () if kind not in table)
    table[types.CodeType] = _reduce_code
    return type(base.__name__, (base, cloudpickle.Pickler), {"dispatch_table": table})


def _reduce_code(code: types.CodeType) -> Reduction:
    return marshal.loads, (marshal.dumps(code),)


class ByValue:
    """What our pickler does differently from cloudpickle's, which is its other base."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return self.refer(obj) or self.reduce_function(obj)
        if issubclass(kind, type):
            return self.refer(obj) or self.reduce_class(obj)
        if kind.__name__ in _NAMED_KINDS:
            return self.refer(obj) or self.reduce_named(obj)
        if kind.__name__ == "ndarray" and _ARRAYS_BECOME_WRITABLE and not obj.flags.writeable:
            return obj.copy().__reduce_ex__(5)
        return NotImplemented

    def refer(self, obj: Any) -> Reduction | None:
        """A reference to ``obj``, if the other side has it under its name."""
        module = home_of(obj)
        if module is None or not namespace.is_from_program(module, obj):
            return None
        return namespace.find, (module, namespace.path_of(obj))

    def reduce_function(self, function: types.FunctionType) -> Any:
        """A function without a name: cloudpickle's way, its globals with it."""
        return super().reducer_override(function)  # type: ignore[misc]

    def reduce_class(self, cls: type) -> Any:
        """A class. If it travels by value, each process makes it once and keeps it as it is."""
        _evaluate_annotations(cls)
        reduced = super().reducer_override(cls)  # type: ignore[misc]
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        make, arguments, state = _complete_reduction(cls, *reduced[:3])
        rebuilding.note_complete(cls)
        begin = (make, arguments, home_of(cls), cls.__qualname__)
        return rebuilding.begin_class, begin, state, None, None, rebuilding.complete_class

    def reduce_named(self, obj: Any) -> Any:
        """By value what the plain pickler would name: a cache around a function, a new type."""
        kind = type(obj)
        if is_importable(obj):
            return NotImplemented
        if kind.__name__ == "_lru_cache_wrapper":
            limits = obj.cache_parameters()
            return rebuilding.make_cached, (obj.__wrapped__, limits["maxsize"], limits["typed"])
        if kind.__name__ == "NewType":
            return rebuilding.make_new_type, (obj.__module__, obj.__name__, obj.__supertype__)
        if kind.__name__ == "TypeAliasType":
            return rebuilding.make_alias, (kind, obj.__name__, obj.__value__, obj.__type_params__)
        if kind.__name__ in ("ParamSpec", "TypeVarTuple"):
            return kind, (obj.__name__,)
        return NotImplemented


_ARRAYS_BECOME_WRITABLE = sys.version_info < (3, 14)
"""Pickle's protocols before 5, the standard pool's until then, have no word for a read-only one."""


def _evaluate_annotations(cls: type) -> None:
    """Let the annotations be there: from Python 3.14 on they are evaluated when asked for.

    Annotations that cannot be evaluated stay behind; the class works without.
    """
    if "__annotate_func__" in vars(cls):
        with contextlib.suppress(Exception):
            _ = cls.__annotations__


def _complete_reduction(cls: Any, make: Any, arguments: Any, state: Any) -> Reduction:
    """What cloudpickle leaves out of a class: its slots, and what its constructor gave members."""
    slots = vars(cls).get("__slots__")
    # A named tuple makes its own.
    is_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
    if slots is not None and isinstance(arguments[3], dict) and not is_tuple:
        arguments = (*arguments[:3], {**arguments[3], "__slots__": slots}, *arguments[4:])
        kept = {
            name: value
            for name, value in state[0].items()
            if name != "__slots__" and not isinstance(value, types.MemberDescriptorType)
        }
        state = (kept, *state[1:])
    members = vars(cls).get("_member_map_")
    if isinstance(members, dict):
        own = {name: _own_attributes(member) for name, member in members.items()}
        if any(own.values()):
            state = (*state[:2], own)
    return make, arguments, state


def _own_attributes(member: Any) -> dict[str, Any]:
    held = getattr(member, "__dict__", {})
    return {name: value for name, value in held.items() if name not in _MEMBER_ATTRIBUTES}


_MEMBER_ATTRIBUTES = frozenset(("_value_", "_name_", "__objclass__", "_sort_order_"))
"""What the enum itself gives its members."""

_NAMED_KINDS = frozenset(
    ("_lru_cache_wrapper", "NewType", "TypeVar", "ParamSpec", "TypeVarTuple", "TypeAliasType")
)
"""Kinds of objects that the plain pickler would name, beside functions and classes."""


def home_of(obj: Any) -> str | None:
    """The module of ``obj`` if its members travel as definitions: ``__main__``, or one by value."""
    module = getattr(obj, "__module__", None)
    if module in MAIN_NAMES:
        return "__main__"
    by_value = _modules_by_value()
    if not by_value or not isinstance(module, str):
        return None
    name = module
    while name:
        if name in by_value:
            return module
        name = name.rpartition(".")[0]
    return None


def _modules_by_value() -> Any:
    """The modules that ``cloudpickle.register_pickle_by_value`` was given."""
    travel = sys.modules.get("cloudpickle.cloudpickle")
    return None if travel is None else travel._PICKLE_BY_VALUE_MODULES


def is_importable(obj: Any) -> bool:
    """Whether another process finds ``obj`` by importing its module and walking its name."""
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None or home_of(obj) is not None:
        return False
    return walk(module, namespace.path_of(obj)) is obj


def walk(module: types.ModuleType, path: str) -> object:
    """What stands at a dotted name of ``module``; None when nothing does."""
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
        if found is None:
            return None
    return found
