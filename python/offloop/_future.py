"""The future of a call: a standard one whose ``cancel`` stops what runs."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import _base
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from _offloop_worker._offloop import bell

if TYPE_CHECKING:
    from collections.abc import Callable

    from _offloop_worker._offloop import Lane

__all__ = ["Future"]

T = TypeVar("T")


class Future(concurrent.futures.Future[T]):
    """The result to come of a call in a pool. All its methods may be called from any thread.

    >>> import time, offloop
    >>> pool = offloop.ProcessPool(1)
    >>> pool.submit(time.sleep, 3600).cancel()
    True
    >>> pool.shutdown()

    It is a ``concurrent.futures.Future``, with one difference: ``cancel`` also stops a call that
    runs already. The future is cancelled at once and its waiters are told; the call itself is
    interrupted, and its worker killed if it does not end within the pool's grace period.

    Callbacks run on a thread of offloop's own, never on an event loop's. If the future is cancelled
    or already done, they run in the call to ``cancel`` or ``add_done_callback``. The result is set
    before the first callback runs. A callback that takes long does not delay other futures; it may
    wait for other calls and close pools, its own too.
    """

    _lane: Lane | None = None
    _token: int = 0
    # The standard class's, which its stubs do not show.
    _done_callbacks: list[Callable[[Future[T]], object]]

    def cancel(self) -> bool:
        """Cancel the call, running or not; False when it has ended already."""
        lane = self._lane
        if not self._set_cancelled():
            return self.cancelled()
        # First, since callbacks may wait for the call's end.
        if lane is not None:
            lane.cancel(self._token)
        self._invoke_callbacks()
        return True

    def running(self) -> bool:
        """Whether a worker runs the call now."""
        lane = self._lane
        return not self.done() and lane is not None and lane.is_running(self._token)

    def result(self, timeout: float | None = None) -> T:
        """Return the value of the call, or raise its exception, as soon as it has ended."""
        try:
            if self._state == _base.PENDING:
                timeout = self._stand_aside(timeout)
            return super().result(timeout)
        finally:
            # As in the standard method: the traceback must not keep the future.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the call, or None for a value, as soon as it has ended."""
        if self._state == _base.PENDING:
            timeout = self._stand_aside(timeout)
        return super().exception(timeout)

    def _stand_aside(self, timeout: float | None) -> float | None:
        """Wait in a callback, on a thread that resolves: another one does that meanwhile.

        Returns what is left of the timeout; all of it on other threads, which wait as usual.
        """
        waiter = bell()
        if waiter is None:
            return timeout
        waiters: list[Any] = self._waiters
        with self._condition:
            if self._state != _base.PENDING:
                return timeout
            waiters.append(waiter)
        try:
            return waiter.wait(self._token, timeout)
        finally:
            with self._condition:
                waiters.remove(waiter)

    def _resolve(self, value: T, exception: BaseException | None) -> bool:
        """Set the outcome, unless the future was cancelled meanwhile.

        True when callbacks are left that the caller is to have run. May be called again, after a
        signal's handler has raised in here.
        """
        with self._condition:
            if self._state == _base.PENDING:
                self._result = value
                self._exception = exception
                self._state = _base.FINISHED
                for waiter in self._waiters:
                    if exception is None:
                        waiter.add_result(self)
                    else:
                        waiter.add_exception(self)
                self._condition.notify_all()
                # Breaks the cycle that would keep the lane and, with it, its workers alive.
                self._lane = None
            elif self._state != _base.FINISHED:
                return False
        return bool(self._done_callbacks) and self._has_callbacks()

    def _resolve_cancelled(self) -> bool:
        """As ``_resolve``, for a call that was cancelled with its pool."""
        return self._set_cancelled() and self._has_callbacks()

    def _set_cancelled(self) -> bool:
        """Become cancelled and tell the waiters; False for a future that was done before."""
        with self._condition:
            if self._state != _base.PENDING:
                return False
            self._state = _base.CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        # Breaks the cycle that would keep the lane and, with it, its workers alive.
        self._lane = None
        return True

    def _has_callbacks(self) -> bool:
        """Tell event loops, whose callbacks take no time; whether there are further callbacks."""
        index = 0
        callbacks = self._done_callbacks
        while index < len(callbacks):
            callback = callbacks[index]
            if type(callback) is FunctionType and callback.__module__ == "asyncio.futures":
                del callbacks[index]
                self._call_back(callback)
            else:
                index += 1
        return index > 0

    def _invoke_callbacks(self) -> None:
        """Run each callback once, also when a signal's handler raises in between."""
        callbacks = self._done_callbacks
        while callbacks:
            self._call_back(callbacks.pop(0))

    def _call_back(self, callback: Callable[[Future[T]], object]) -> None:
        try:
            callback(self)
        except Exception:
            _base.LOGGER.exception("exception calling callback for %r", self)
