"""The request that a task serves, as one of our middlewares has noted it, and what it has cost.

A note travels as a context variable, so the tasks and callbacks that a handler makes serve the
handler's request. The watch reads it from any thread (`_watch/request.py`).
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context, ContextVar, Token
from typing import Any

from _offloop_worker._offloop import BlockedTime
from offloop import _observing
from offloop._loop.event_loop import EventLoop
from offloop._watch.switch import watch

__all__ = ["SERVING", "Serving", "blocked_time", "count_calls", "end"]


class Serving:
    """A request that is being served.

    Attributes:
        method: of HTTP, or ``WEBSOCKET``.
        path: what was asked for, without the query.
        route: the pattern that has matched, where the middleware knows it.
        origin: what will know the pattern later: ASGI's scope, or Django's request.
        calls: by lane: how many calls have ended, and how many seconds they were waited for.
        is_told: the client was told what it has cost.
    """

    __slots__ = ("blocked", "calls", "is_told", "method", "origin", "path", "route")

    def __init__(
        self,
        method: Any,
        path: Any,
        *,
        route: Any = None,
        origin: Any = None,
        blocked: BlockedTime | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.route = route
        self.origin = origin
        self.blocked = blocked
        self.is_told = False
        self.calls: dict[str, list[float]] | None = None

    def count(self, lane: str, seconds: float) -> None:
        """A call has ended."""
        if self.calls is None:
            self.calls = {}
        kept = self.calls.setdefault(lane, [0, 0.0])
        kept[0] += 1
        kept[1] += seconds

    def server_timing(self) -> str | None:
        """What it has cost until now, as a value of ``Server-Timing``, in milliseconds."""
        metrics = []
        if self.blocked is not None:
            blocked_ms = self.blocked.seconds() * 1000
            metrics.append(f'loop;dur={blocked_ms:.1f};desc="event loop blocked"')
        if self.calls is not None:
            for lane, (count, seconds) in self.calls.items():
                noun = "call" if count == 1 else "calls"
                metrics.append(f'{lane};dur={seconds * 1000:.1f};desc="{count:.0f} {noun}"')
        return ", ".join(metrics) or None


SERVING: ContextVar[Serving | None] = ContextVar("offloop_serving", default=None)


def end(token: Token[Serving | None]) -> None:
    """A request is over: what was noted before is noted again."""
    try:
        SERVING.reset(token)
    except ValueError:
        # The coroutine is being collected, outside of the context in which it began.
        return


def blocked_time(loop: asyncio.AbstractEventLoop | None = None) -> BlockedTime | None:
    """Measures for how long a loop is blocked from now on; None without a watch.

    It is the running loop, unless one is given; any thread may give one.
    """
    if loop is None:
        loop = asyncio._get_running_loop()
    if isinstance(loop, EventLoop):
        return loop._blocked_time()
    return watch._announcements.blocked_time(loop)


class _Counting:
    """A call that counts for a request."""

    __slots__ = ("_begun", "_lane", "_serving")

    carried = None

    def __init__(self, serving: Serving, lane: str) -> None:
        self._serving = serving
        self._lane = lane
        self._begun = time.monotonic()

    def enter(self, context: Context) -> None:
        """The call runs in this process: that changes nothing."""

    def end(self, error: BaseException | None) -> None:
        """The call is over."""
        self._serving.count(self._lane, time.monotonic() - self._begun)


def _count(lane: str, function: object) -> _Counting | None:
    serving = SERVING.get()
    return None if serving is None else _Counting(serving, lane)


def count_calls() -> None:
    """From now on calls count for the requests that make them."""
    _observing.add(_count)
