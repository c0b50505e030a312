"""Reading objects of a program without running any of its code.

An attribute of an object may be a property, its class may have a ``__getattr__``, a ``repr`` may do
anything, and even ``isinstance`` asks the object for its class. So classes are compared exactly or
as C does it, and attributes are read by the descriptors of classes that are written in C.

Threads:    any, under the GIL; the object's own thread may be in the middle of a call.
Invariants: 1. No function of the program's is called.
            2. Nothing is changed, and nothing is kept.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = [
    "attribute",
    "defines",
    "encodable",
    "entries_of",
    "is_a",
    "local_variables",
    "module_of",
    "native",
    "qualified_name_of",
    "text_of",
]

TEXT_MAX = 200
"""Characters of a name or a value that are kept."""

_type_mro = vars(type)["__mro__"].__get__
_type_dict = vars(type)["__dict__"].__get__
_type_module = vars(type)["__module__"].__get__
_type_qualified_name = vars(type)["__qualname__"].__get__
_OWN_NAMESPACE = 0x1 | 0x2
"""`CO_OPTIMIZED` and `CO_NEWLOCALS`: the code of a function."""


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """Whether a value's class is one of these or derives from one, whatever the value says."""
    return issubclass(type(value), kind)


def encodable(text: str) -> str:
    """A text as UTF-8 can hold it: a mark stands for each half of a surrogate pair.

    The name of a file that is not UTF-8 has such halves, as ``os.fsdecode`` makes it.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text_of(value: object) -> str | None:
    """A text that UTF-8 can hold, if it is exactly a text; cut where it is too long."""
    if type(value) is not str:
        return None
    return encodable(value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 3] + "...")


def qualified_name_of(kind: type) -> str:
    """The qualified name of a class, whatever its metaclass says."""
    return text_of(_type_qualified_name(kind)) or "?"


def module_of(kind: type) -> str | None:
    """The name of the module of a class."""
    return text_of(_type_module(kind))


def attribute(value: object, name: str) -> Any:
    """An attribute that is a plain value or a slot; ``None`` for any other and for none."""
    kept = _of_class(type(value), name)
    if type(kept) is types.MemberDescriptorType:
        return _slot(kept, value)
    if kept is not None and _is_computed(type(kept)):
        return None
    try:
        # Not a call of the class's own method: what has no attribute of this name raises.
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def native(value: object, name: str, modules: tuple[str, ...]) -> Any:
    """What a property gives that is written in C, of a class of one of these modules."""
    kind = type(value)
    kept = _of_class(kind, name)
    if type(kept) is types.GetSetDescriptorType and module_of(kind) in modules:
        return kept.__get__(value)
    return None


def _slot(descriptor: types.MemberDescriptorType, value: object) -> Any:
    try:
        return descriptor.__get__(value)
    except AttributeError:
        return None


def _of_class(kind: type, name: str) -> Any:
    for base in _type_mro(kind):
        namespace = _type_dict(base)
        if name in namespace:
            return namespace[name]
    return None


def defines(kind: type, name: str, before: type) -> bool:
    """Whether a class that derives from ``before``, or one between the two, defines a name."""
    for base in _type_mro(kind):
        if base is before:
            return False
        if name in _type_dict(base):
            return True
    return False


def _is_computed(kind: type) -> bool:
    return any(_of_class(kind, name) is not None for name in ("__get__", "__set__", "__delete__"))


def entries_of(mapping: object) -> Iterator[tuple[str, Any]]:
    """The entries of a plain dictionary whose keys are plain texts."""
    if type(mapping) is dict:
        # A copy that is made at once: the dictionary's own thread may go on meanwhile.
        for key, value in list(mapping.items()):
            if type(key) is str:
                yield key, value


def local_variables(frame: types.FrameType, *names: str) -> list[Any]:
    """The values of local variables of a function that runs or waits; ``None`` for unset ones."""
    if frame.f_code.co_flags & _OWN_NAMESPACE != _OWN_NAMESPACE:
        return [None] * len(names)
    if sys.version_info >= (3, 13):
        values = frame.f_locals
        return [values.get(name) for name in names]
    if frame.f_trace is not None:
        # A debugger has changed the copy that this would write over.
        return [None] * len(names)
    values = frame.f_locals
    found = [values.get(name) for name in names]
    # The interpreter keeps the copy for as long as the function runs, with all that is in it.
    values.clear()
    return found
