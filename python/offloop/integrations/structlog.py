"""Stalls as events of structlog, and the request in each event.

Source:     structlog's processors and loggers (structlog.org).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from offloop._serving import SERVING
from offloop._watch.records import Stall
from offloop._watch.request import described
from offloop.integrations._peers import missing

try:
    import structlog
except ModuleNotFoundError as _error:
    raise missing("structlog", "structlog") from _error

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

__all__ = ["add_request", "stall_facts", "stall_logger"]


def add_request(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    """A processor: events of a request have its route as ``request``, if a middleware noted it.

    >>> import structlog
    >>> structlog.configure(processors=[add_request, structlog.processors.JSONRenderer()])
    >>> structlog.reset_defaults()
    """
    serving = SERVING.get()
    if serving is not None and "request" not in event_dict:
        request = described(serving)
        if request is not None:
            event_dict["request"] = request
    return event_dict


def stall_facts(stall: Stall) -> dict[str, Any]:
    """What is known of a stall, as plain values under short names; without what is not known."""
    culprit = stall.culprit
    facts = {
        "cause": str(stall.cause),
        "detail": stall.detail,
        "duration": stall.duration,
        "file": culprit and culprit.filename,
        "line": culprit and culprit.lineno,
        "function": culprit.function if culprit else stall.callback,
        "advice": stall.advice,
        "task": stall.task and stall.task.name,
        "request": stall.request,
        "thread": stall.thread,
        "stall": stall.number,
        "suppressed": stall.suppressed or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def stall_logger(logger: Any = None) -> Callable[[Stall], None]:
    """A callback for ``offloop.watch(on_stall=...)`` that logs stalls as warnings.

    >>> import offloop
    >>> with offloop.watch(on_stall=stall_logger(), words=False):
    ...     pass

    Args:
        logger: of structlog; ``structlog.get_logger("offloop.watch")`` unless given.

    The events are ``event_loop_blocked`` while the stall lasts, and ``event_loop_was_blocked`` once
    it is over, with `stall_facts`. They are logged on a thread of offloop's in the context of the
    task that is to blame, so ``structlog.contextvars`` adds what was bound for its request.
    """
    if logger is None:
        logger = structlog.get_logger("offloop.watch")

    def log(stall: Stall) -> None:
        is_over = stall.duration is not None
        event = "event_loop_was_blocked" if is_over else "event_loop_blocked"
        logger.warning(event, **stall_facts(stall))

    return log
