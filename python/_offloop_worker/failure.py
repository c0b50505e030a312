"""How an exception travels from a worker: itself, and what pickle leaves behind.

Pickle keeps an exception's class, arguments and attributes (and so its notes). Its cause, its
context, the traceback's text and the members of groups are sent beside it. All exceptions that one
leads to form a table, in which each stands once and is named by its index, so that a long chain
costs as much as it has exceptions, and cycles and shared causes arrive as they were:

    (pickle of all exceptions or None, entries, how many more there were)
    entry: (class, parts, text, cause, context, suppress context, members)

Cause, context and members are indices; parts are empty unless the exceptions do not travel
together.
"""

from __future__ import annotations

import tokenize  # noqa: F401 - linecache imports it late, at the first error of each worker.
import traceback
from _pickle import PicklingError, dumps, loads

from _offloop_worker.codec import dumps_by_value
from _offloop_worker.exceptions import MemoryLimitExceeded

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Parts = tuple[Any, ...]
    # (class, parts, text, cause, context, suppress context, members).
    Entry = tuple[str, Parts, str, int | None, int | None, bool, list[int]]
    Table = tuple[bytes | None, list[Entry], int]
    RemoteTraceback = Callable[[str], BaseException]
    # What stands for an exception of this class that cannot be had, for this reason.
    StandIn = Callable[[str, BaseException | str], BaseException]

__all__ = ["decode", "describe", "encode", "encode_text", "name_of"]

ERRORS_MAX = 1000
"""Exceptions that travel with one: no reader needs more, and a loop that raises each error from the
previous error makes a million."""

_NESTING_MAX = 50
"""Groups in groups that one text may show; ``traceback`` visits them by calling itself."""

_COROUTINE_ADVICE = (
    "a coroutine cannot leave the process that made it: run it there, with asyncio.run inside of "
    "the function, and return what it returns"
)


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
    if type(error) is TypeError and _message(error) == "cannot pickle 'coroutine' object":
        _add_note(error, _COROUTINE_ADVICE)
    return dumps(_table(error), 5)


def _message(error: BaseException) -> str | None:
    """The text of a plain exception; its other arguments may be anything, and answer anyhow."""
    only = error.args[0] if len(error.args) == 1 else None
    return only if isinstance(only, str) else None


def encode_text(text: str) -> bytes:
    """Pickle a failure of which only the text is left."""
    return encode(RuntimeError(f"the outcome of the call cannot be encoded: {text}"))


def name_of(cls: type) -> str:
    """The name of a class or a function as a traceback shows it."""
    builtin = cls.__module__ in ("builtins", "__main__", None)
    return cls.__qualname__ if builtin else f"{cls.__module__}.{cls.__qualname__}"


def _table(root: BaseException) -> Table:
    errors, left_out = _reachable(root)
    indices = {id(error): index for index, error in enumerate(errors)}
    together = _together(errors)
    texts = _texts(errors)
    entries: list[Entry] = [
        (
            name_of(type(error)),
            _parts(error) if together is None else (),
            text,
            indices.get(id(error.__cause__)),
            indices.get(id(error.__context__)),
            error.__suppress_context__,
            [indices[id(member)] for member in _members(error) if id(member) in indices],
        )
        for error, text in zip(errors, texts, strict=True)
    ]
    return together, entries, left_out


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _reachable(root: BaseException) -> tuple[list[BaseException], int]:
    """What ``root`` leads to, the nearest first, and how many more there are than may travel."""
    # All are held by ``root``, so none can leave its id to another meanwhile.
    found, seen = [root], {id(root)}
    for error in found:
        for other in (*_members(error), error.__cause__, error.__context__):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return found[:ERRORS_MAX], max(0, len(found) - ERRORS_MAX)


def _texts(errors: list[BaseException]) -> list[str]:
    """The traceback of each error alone.

    ``traceback`` looks at the whole chain even where it shows one exception, so the chain is taken
    apart for as long as this lasts.
    """
    links = [(e, e.__cause__, e.__context__, e.__suppress_context__) for e in errors]
    try:
        for error in errors:
            _set(error, "__cause__", None)
            _set(error, "__context__", None)
        room = ERRORS_MAX
        texts = []
        for error in errors:
            count = _shown_in(error, room)
            texts.append(_text(error, error if count is not None else _Shallow(error)))
            room -= count or 0
        return texts
    finally:
        for error, cause, context, suppress in links:
            _set(error, "__cause__", cause)
            _set(error, "__context__", context)
            _set(error, "__suppress_context__", suppress)


def _set(error: BaseException, name: str, value: object) -> None:
    """Set an attribute of any exception; of a frozen dataclass, too."""
    BaseException.__setattr__(error, name, value)


def _text(error: BaseException, shown: BaseException) -> str:
    summary = traceback.TracebackException(type(error), shown, error.__traceback__, compact=True)
    return "".join(summary.format(chain=False))


def _shown_in(error: BaseException, room: int) -> int | None:
    """How many members the text of a group shows; None when they are too many, or too deep."""
    count = 0
    level = _members(error)
    for _ in range(_NESTING_MAX):
        count += len(level)
        if count > room:
            return None
        level = [member for group in level for member in _members(group)]
        if not level:
            return count
    return None


class _Shallow(Exception):
    """Stands for a group whose members have texts of their own and are not shown in this one."""

    def __init__(self, group: BaseException) -> None:
        super().__init__()
        self._group = group
        if isinstance(notes := getattr(group, "__notes__", None), list):
            self.__notes__ = notes

    def __str__(self) -> str:
        return str(self._group)


def _together(errors: list[BaseException]) -> bytes | None:
    """One pickle of all, in which shared objects stay shared; None if that does not travel."""
    try:
        pickle = _whole(errors)
        rebuilt = loads(pickle)
    except Exception:
        return None
    return pickle if all(isinstance(error, BaseException) for error in rebuilt) else None


def _whole(value: object) -> bytes:
    """The pickle of ``value``, with its classes by value if they cannot be imported."""
    try:
        pickle = dumps(value, 5)
    except (PicklingError, AttributeError):
        return dumps_by_value(value, None)
    return dumps_by_value(value, None) if b"__main__" in pickle else pickle


def _parts(error: BaseException) -> Parts:
    """The pickle of ``error``; or its class, arguments and attributes to rebuild it from."""
    if isinstance(error, BaseExceptionGroup):
        return ("group", _class_pickle(type(error)), error.message, _attributes(error))
    try:
        pickle = _whole(error)
        rebuilt = loads(pickle)
    except Exception as refusal:
        reason = f"it does not unpickle ({type(refusal).__name__}: {refusal})"
    else:
        if isinstance(rebuilt, BaseException):
            return ("whole", pickle)
        reason = _no_exception(name_of(type(error)), rebuilt)
    return ("pieces", _class_pickle(type(error)), _arguments(error), _attributes(error), reason)


def _no_exception(name: str, rebuilt: object) -> str:
    """Say that an exception of class ``name`` has unpickled as something else."""
    shown = _repr(rebuilt)
    shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
    return f"{name}.__reduce__ rebuilds no exception, but {shown} of type {name_of(type(rebuilt))}"


def _arguments(error: BaseException) -> bytes:
    # Of an ``OSError`` these are more than its ``args``.
    reduced = _built_in_base(type(error)).__reduce__(error)[1]
    arguments = tuple(value if _travels(value) else _Unpicklable(_repr(value)) for value in reduced)
    return dumps_by_value(arguments, None)


def _attributes(error: BaseException) -> bytes:
    attributes = {key: value for key, value in vars(error).items() if _travels(value)}
    return dumps_by_value(attributes, None)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


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


def decode(table: Table, remote_traceback: RemoteTraceback, stand_in: StandIn) -> BaseException:
    """Rebuild the exception of a table, and all that it leads to.

    ``remote_traceback`` makes a cause of a text, ``stand_in`` what stands for an exception that
    cannot be rebuilt here.
    """
    together, entries, left_out = table
    if together is None:
        errors = _rebuild_each(entries, stand_in)
    else:
        errors = _rebuild_together(together, entries, stand_in)
    for error, (_name, _parts, text, cause, context, suppress, _members) in zip(
        errors, entries, strict=True
    ):
        # As the standard pool does, the remote traceback is the cause; the true one is its cause.
        remote = remote_traceback(f'\n"""\n{text}"""')
        if cause is not None:
            remote.__cause__ = errors[cause]
        if context is not None:
            remote.__context__ = errors[context]
            remote.__suppress_context__ = suppress
        _set(error, "__cause__", remote)
    if left_out:
        shown = f"the nearest {ERRORS_MAX:,} exceptions of its chain"
        _add_note(errors[0], f"{shown} are here; {left_out:,} more were left out")
    return errors[0]


def _rebuild_together(
    pickle: bytes, entries: list[Entry], stand_in: StandIn
) -> list[BaseException]:
    try:
        rebuilt = loads(pickle)
    except Exception as refusal:
        return [stand_in(entry[0], refusal) for entry in entries]
    return [
        error if isinstance(error, BaseException) else stand_in(name, _no_exception(name, error))
        for error, (name, *_) in zip(rebuilt, entries, strict=True)
    ]


def _rebuild_each(entries: list[Entry], stand_in: StandIn) -> list[BaseException]:
    """Rebuild each exception, the members of a group before the group."""
    errors: dict[int, BaseException] = {}
    opened: set[int] = set()
    pending = list(range(len(entries) - 1, -1, -1))
    while pending:
        index = pending[-1]
        name, parts, *_, members = entries[index]
        missing = [member for member in members if member not in errors]
        if index not in errors and missing and index not in opened:
            opened.add(index)
            pending.extend(missing)
            continue
        pending.pop()
        if index not in errors:
            inside = [errors[member] for member in members if member in errors]
            errors[index] = _rebuild(name, parts, inside, stand_in)
    return [errors[index] for index in range(len(entries))]


def _rebuild(
    name: str, parts: Parts, members: list[BaseException], stand_in: StandIn
) -> BaseException:
    try:
        if parts[0] == "group":
            return _rebuild_group(parts, members or [stand_in(name, "its members were left out")])
        rebuilt = loads(parts[1]) if parts[0] == "whole" else _rebuild_pieces(parts)
    except Exception as refusal:
        return stand_in(name, refusal)
    if isinstance(rebuilt, BaseException):
        return rebuilt
    return stand_in(name, _no_exception(name, rebuilt))


def _rebuild_group(parts: Parts, members: list[BaseException]) -> BaseException:
    _kind, cls, message, attributes = parts
    cls = loads(cls)
    if not issubclass(cls, BaseExceptionGroup):
        cls = BaseExceptionGroup
    try:
        error: BaseException = cls(message, members)
    except Exception:
        error = _allocate(cls, (message, members))
    vars(error).update(loads(attributes))
    return error


def _rebuild_pieces(parts: Parts) -> BaseException:
    _kind, cls, arguments, attributes, reason = parts
    cls, arguments, attributes = loads(cls), loads(arguments), loads(attributes)
    error: BaseException = Exception()
    if issubclass(cls, BaseException):
        error = _allocate(cls, arguments)
    vars(error).update(attributes)
    _add_note(error, f"rebuilt without its constructor, since {reason}")
    return error


def _add_note(error: BaseException, note: str) -> None:
    notes = vars(error).get("__notes__")
    vars(error)["__notes__"] = [*notes, note] if isinstance(notes, list) else [note]


def _built_in_base(cls: type[BaseException]) -> type[BaseException]:
    """The first base whose constructor and reduction are the interpreter's own."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _allocate(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An instance made without ``cls``'s own constructors, by its first base that is built in."""
    base = _built_in_base(cls)
    try:
        error = base.__new__(cls, *arguments)
        base.__init__(error, *arguments)
    except TypeError:
        error = BaseException.__new__(cls, *arguments)
        error.args = arguments
    return error
