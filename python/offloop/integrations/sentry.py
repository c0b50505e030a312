"""Stalls as events of Sentry, with the stack and the request.

Source:     Sentry's event payloads (develop.sentry.dev/sdk/data-model/event-payloads).
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from offloop._watch.records import StackEntry, Stall
from offloop.integrations._peers import missing

try:
    import sentry_sdk
except ModuleNotFoundError as _error:
    raise missing("sentry", "sentry-sdk") from _error

if TYPE_CHECKING:
    from sentry_sdk.types import Event

__all__ = ["stall_event", "stall_reporter"]

CONTEXT_LINES = 5
"""Lines of source before and after that of a stack entry, as Sentry's own events have them."""


def stall_reporter(*, at_once: bool = False) -> Callable[[Stall], None]:
    """A callback for ``offloop.watch(on_stall=...)`` that sends each stall to Sentry, once.

    >>> import offloop
    >>> with offloop.watch(on_stall=stall_reporter(), words=False):
    ...     pass

    Args:
        at_once: send it when it is found, so that a loop that never goes on is reported, too;
            otherwise when it is over, with its duration.

    The event belongs to the transaction and has the user, tags and breadcrumbs of the task that is
    to blame. Events of one culprit are one issue. Without ``sentry_sdk.init`` nothing is sent. How
    many there are is bounded by ``offloop.watch(stalls_per_minute=...)``.
    """
    if not isinstance(at_once, bool):
        raise TypeError(f"at_once must be True or False, not {at_once!r}")

    def report(stall: Stall) -> None:
        if (stall.duration is None) is at_once:
            sentry_sdk.capture_event(stall_event(stall))

    return report


def stall_event(stall: Stall) -> Event:
    """The event of a stall, for a program that sends it itself."""
    culprit = stall.culprit
    function = culprit.function if culprit else stall.callback
    how = "is blocked"
    if stall.duration is not None:
        how = f"was blocked for {stall.duration * 1000:.0f} ms"
    fingerprint = ["offloop-stall", culprit.filename if culprit else "", function or ""]
    if culprit is None:
        # Nothing else tells stalls apart that no code is to blame for.
        fingerprint.append(str(stall.cause))
    exception = {
        "type": "EventLoopBlocked",
        "value": f"the event loop {how} {_by(stall)}",
        "module": "offloop",
        "mechanism": {"type": "offloop", "handled": True},
        "stacktrace": {"frames": [_entry(entry) for entry in reversed(stall.stack)]},
    }
    event: Event = {
        "level": "warning",
        "logger": "offloop.watch",
        "exception": {"values": [exception]},
        "fingerprint": fingerprint,
        "tags": {"offloop.cause": str(stall.cause), "offloop.thread": stall.thread},
        "contexts": {"stall": _facts(stall)},
    }
    if stall.request is not None:
        event["transaction"] = stall.request
    return event


def _by(stall: Stall) -> str:
    """The line or the callback that is to blame; without any, the cause."""
    if stall.culprit is not None:
        culprit = stall.culprit
        return f"by {culprit.filename}:{culprit.lineno} in {culprit.function}"
    detail = "" if stall.detail is None else f", {stall.detail}"
    if stall.callback is not None:
        return f"by {stall.callback} ({stall.cause}{detail})"
    return f"by no code that is known (cause: {stall.cause}{detail})"


def _facts(stall: Stall) -> dict[str, Any]:
    facts = {
        "number": stall.number,
        "duration": stall.duration,
        "cause": str(stall.cause),
        "detail": stall.detail,
        "advice": stall.advice,
        "stack_quality": stall.stack_quality,
        "task": stall.task and stall.task.name,
        "coroutine": stall.task and stall.task.coroutine,
        "callback": stall.callback,
        "native": [entry.function for entry in stall.native] or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _entry(entry: StackEntry) -> dict[str, Any]:
    """A stack entry as Sentry takes it, with its source where that can be read."""
    found: dict[str, Any] = {
        "abs_path": entry.filename,
        "filename": entry.filename,
        "function": entry.function,
        "lineno": entry.lineno,
    }
    lines = [line.rstrip("\n") for line in linecache.getlines(entry.filename)]
    if entry.lineno is not None and 0 < entry.lineno <= len(lines):
        index = entry.lineno - 1
        found["pre_context"] = lines[max(0, index - CONTEXT_LINES) : index]
        found["context_line"] = lines[index]
        found["post_context"] = lines[index + 1 : index + 1 + CONTEXT_LINES]
    return found
