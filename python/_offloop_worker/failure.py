"""How an exception travels from a worker: itself, and what pickle leaves behind.

Pickle keeps an exception's class, arguments and attributes (and so its notes). Its cause, its
context, the traceback's text and those of the members of a group are sent beside it, as a tree of
tuples: (pickle or parts, traceback text, cause, context, suppress context, members).
"""

from __future__ import annotations

import traceback
from _pickle import PicklingError, dumps, loads

from _offloop_worker.codec import dumps_by_value
from _offloop_worker.exceptions import MemoryLimitExceeded

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Tree = tuple[Any, ...]
    RemoteTraceback = Callable[..., BaseException]

__all__ = ["decode", "describe", "encode", "encode_text"]

_DEPTH_MAX = 16


def describe(error: BaseException) -> str:
    """One text for an exception: its class, its message and where it was raised."""
    return "".join(traceback.format_exception(error))


#: Bytes that this worker may have; its ``MemoryError`` is then the limit's doing.
memory_limit: int | None = None


def encode(error: BaseException) -> bytes:
    """Pickle ``error`` with everything that belongs to it."""
    if memory_limit is not None and type(error) is MemoryError:
        exceeded = MemoryLimitExceeded(f"the call needs more than {memory_limit} bytes of memory")
        exceeded.__cause__ = error
        error = exceeded
    return dumps(_tree(error, _DEPTH_MAX), 5)


def encode_text(text: str) -> bytes:
    """Pickle a failure of which only the text is left."""
    error = RuntimeError(f"the outcome of the call cannot be encoded: {text}")
    return dumps(_tree(error, 1), 5)


def _tree(error: BaseException | None, depth: int) -> Tree | None:
    if error is None or depth == 0:
        return None
    members: Tree = ()
    if isinstance(error, BaseExceptionGroup):
        members = tuple(_tree(member, depth - 1) for member in error.exceptions)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False))
    return (
        _parts(error),
        text,
        _tree(error.__cause__, depth - 1),
        _tree(error.__context__, depth - 1),
        error.__suppress_context__,
        members,
    )


def _parts(error: BaseException) -> Tree:
    """The pickle of ``error``; or its class, arguments and attributes to rebuild it from."""
    try:
        pickle = _whole(error)
        loads(pickle)
        return ("whole", pickle)
    except Exception as refusal:
        if isinstance(error, BaseExceptionGroup):
            cls, _arguments, attributes = _pieces(error)
            return ("group", cls, error.message, attributes)
        return ("parts", *_pieces(error), f"{type(refusal).__name__}: {refusal}")


def _whole(error: BaseException) -> bytes:
    """The pickle of ``error``, with its class by value if nobody can import that."""
    try:
        pickle = dumps(error, 5)
    except (PicklingError, AttributeError):
        return dumps_by_value(error, None)
    return dumps_by_value(error, None) if b"__main__" in pickle else pickle


def _pieces(error: BaseException) -> tuple[bytes, bytes, bytes]:
    attributes = {key: value for key, value in vars(error).items() if _travels(value)}
    # Of an ``OSError`` these are more than its ``args``.
    reduced = _built_in_base(type(error)).__reduce__(error)[1]
    arguments = tuple(value if _travels(value) else _Unpicklable(repr(value)) for value in reduced)
    return (
        _class_pickle(type(error)),
        dumps_by_value(arguments, None),
        dumps_by_value(attributes, None),
    )


def _class_pickle(cls: type[BaseException]) -> bytes:
    """The class itself, or the first of its bases that travels."""
    for candidate in cls.__mro__:
        try:
            return dumps_by_value(candidate, None)
        except Exception:
            # The next base is tried; ``object`` always travels.
            continue
    return dumps(Exception, 5)


def _travels(value: object) -> bool:
    try:
        loads(dumps_by_value(value, None))
    except Exception:
        return False
    return True


class _Unpicklable:
    """Stands for an argument that cannot travel; shows what it was."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def decode(tree: Tree, remote_traceback: RemoteTraceback) -> BaseException:
    """Rebuild the exception of a tree; ``remote_traceback`` makes a cause of a text."""
    parts, text, cause, context, suppress, members = tree
    if parts[0] == "group":
        rebuilt = [decode(member, remote_traceback) for member in members if member is not None]
        error: BaseException = loads(parts[1])(parts[2], rebuilt)
        vars(error).update(loads(parts[3]))
        _attach_causes(error, text, cause, context, suppress, remote_traceback)
        return error
    error = _rebuild(parts)
    if isinstance(error, BaseExceptionGroup):
        for member, subtree in zip(error.exceptions, members, strict=False):
            if subtree is not None:
                _attach(member, subtree, remote_traceback)
    _attach_causes(error, text, cause, context, suppress, remote_traceback)
    return error


def _attach(error: BaseException, tree: Tree, remote_traceback: RemoteTraceback) -> None:
    _parts_unused, text, cause, context, suppress, members = tree
    if isinstance(error, BaseExceptionGroup):
        for member, subtree in zip(error.exceptions, members, strict=False):
            if subtree is not None:
                _attach(member, subtree, remote_traceback)
    _attach_causes(error, text, cause, context, suppress, remote_traceback)


def _attach_causes(
    error: BaseException,
    text: str,
    cause: Tree | None,
    context: Tree | None,
    suppress: bool,
    remote_traceback: RemoteTraceback,
) -> None:
    """As the standard pool does, the remote traceback is the cause; the true one is its cause."""
    remote = remote_traceback(f'\n"""\n{text}"""')
    if cause is not None:
        remote.__cause__ = decode(cause, remote_traceback)
    if context is not None:
        remote.__context__ = decode(context, remote_traceback)
        remote.__suppress_context__ = suppress
    error.__cause__ = remote


def _rebuild(parts: Tree) -> BaseException:
    if parts[0] == "whole":
        whole: BaseException = loads(parts[1])
        return whole
    _kind, cls, arguments, attributes, reason = parts
    cls, arguments, attributes = loads(cls), loads(arguments), loads(attributes)
    error: BaseException = Exception()
    if issubclass(cls, BaseException):
        error = _allocate(cls, arguments)
    vars(error).update(attributes)
    error.add_note(f"rebuilt without its constructor, since it does not unpickle ({reason})")
    return error


def _built_in_base(cls: type[BaseException]) -> type[BaseException]:
    """The first base whose constructor and reduction are the interpreter's own."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _allocate(cls: type[BaseException], arguments: Tree) -> BaseException:
    """An instance made without ``cls``'s own constructors, by its first base that is built in."""
    base = _built_in_base(cls)
    try:
        error = base.__new__(cls, *arguments)
        base.__init__(error, *arguments)
    except TypeError:
        error = BaseException.__new__(cls, *arguments)
        error.args = arguments
    return error
