"""What handles and their loop leave to Python: texts, reports, and calls with odd keywords."""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import base_events, events, format_helpers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from offloop.exceptions import BypassedWarning

if TYPE_CHECKING:
    import traceback

    from offloop._loop.event_loop import EventLoop

__all__ = [
    "call_at",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
    "check_run",
    "describe",
    "inspect",
    "log_slow",
    "report",
    "time_of",
]


_STANDARD_FILE = events.Handle.__init__.__code__.co_filename


def describe(handle: Any) -> str:
    """Return the text that the standard library's handle of the same state has."""
    if handle._repr is not None:
        return str(handle._repr)
    info = [handle.__class__.__name__]
    if handle._cancelled:
        info.append("cancelled")
    if isinstance(handle, asyncio.TimerHandle):
        info.append(f"when={handle._when}")  # type: ignore[attr-defined]
    if handle._callback is not None:
        info.append(_source(handle))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(info)}>"


def _source(handle: Any) -> str:
    callback, arguments = handle._callback, handle._args
    if sys.version_info >= (3, 13):
        debug = handle._loop.get_debug()
        return format_helpers._format_callback_source(callback, arguments, debug=debug)
    return format_helpers._format_callback_source(callback, arguments)


def report(handle: Any, error: BaseException) -> None:
    """Tell the loop's exception handler what a callback raised."""
    context: dict[str, Any] = {
        "message": f"Exception in callback {_source(handle)}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)


def log_slow(handle: asyncio.Handle, seconds: float) -> None:
    """Say in the log that a callback took long, and which one it was."""
    # Looked up at each call: programs replace the logger of that module, and tests do.
    text = base_events._format_handle(handle)  # type: ignore[attr-defined]
    base_events.logger.warning(  # type: ignore[attr-defined]
        "Executing %s took %.3f seconds", text, seconds
    )


def inspect(
    loop: EventLoop, handle: Any, method: str, check_thread: bool
) -> traceback.StackSummary | None:
    """Check a new handle as debug mode wants it; return where it was made."""
    if check_thread:
        loop._check_thread()  # type: ignore[attr-defined]
    loop._check_callback(handle._callback, method)  # type: ignore[attr-defined]
    return format_helpers.extract_stack(sys._getframe(1))


def time_of(loop: EventLoop) -> float:
    """Ask a clock that is not ours, from as deep a stack as the standard loop's rounds have.

    freezegun tells by the callers whether it answers with the real time.
    """
    return loop.time()


_told = False


def check_run(run: Any) -> None:
    """Warn once if ``run`` is not the ``Handle._run`` of the standard library."""
    global _told
    code = getattr(run, "__code__", None)
    if _told or (code is not None and code.co_filename == _STANDARD_FILE):
        return
    _told = True
    place = f"{getattr(run, '__module__', '?')}.{getattr(run, '__qualname__', run)}"
    warnings.warn(
        f"{place} was put in the place of asyncio.events.Handle._run, which offloop's event loop "
        "does not call: how late and how busy it is, loop.statistics() tells; which callback runs, "
        "its watch does (loop._arm_watch() and loop._running_callback())",
        BypassedWarning,
        stacklevel=2,
    )


def _rearranged(
    method: Callable[..., asyncio.Handle],
    parameters: tuple[str, ...],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> asyncio.Handle:
    """Call ``method`` with the parameters that were given by keyword put into their places."""
    name = method.__name__
    context = keywords.pop("context", None)
    given = list(arguments)
    for parameter in parameters[len(arguments) :]:
        if parameter not in keywords:
            raise TypeError(f"{name}() missing 1 required positional argument: {parameter!r}")
        given.append(keywords.pop(parameter))
    for parameter in keywords:
        if parameter in parameters:
            raise TypeError(f"{name}() got multiple values for argument {parameter!r}")
        raise TypeError(f"{name}() got an unexpected keyword argument {parameter!r}")
    return method(*given, context=context)


def call_soon(loop: EventLoop, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Schedule a callback that was given by keyword."""
    return _rearranged(loop.call_soon, ("callback",), arguments, keywords)


def call_soon_threadsafe(
    loop: EventLoop, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """Schedule a callback that was given by keyword."""
    return _rearranged(loop.call_soon_threadsafe, ("callback",), arguments, keywords)


def call_later(loop: EventLoop, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Schedule a callback of which a part was given by keyword."""
    return _rearranged(loop.call_later, ("delay", "callback"), arguments, keywords)


def call_at(loop: EventLoop, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Schedule a callback of which a part was given by keyword."""
    return _rearranged(loop.call_at, ("when", "callback"), arguments, keywords)
