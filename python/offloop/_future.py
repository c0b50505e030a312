"""The future of a call: a standard one whose ``cancel`` stops what runs."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import _base
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
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
    """

    _lane: Lane | None = None
    _token: int = 0

    def cancel(self) -> bool:
        """Cancel the call, running or not; False when it has ended already."""
        if not super().cancel():
            return False
        if self._cancelled_by_pool() and self._lane is not None:
            self._lane.cancel(self._token)
        return True

    def running(self) -> bool:
        """Whether a worker runs the call now."""
        return not self.done() and self._lane is not None and self._lane.is_running(self._token)

    def _cancelled_by_pool(self) -> bool:
        """Cancel and tell waiters, once; False when that was done before."""
        super().cancel()
        with self._condition:
            if self._state != _base.CANCELLED:
                return False
        self.set_running_or_notify_cancel()
        return True

    def _resolve(self, value: T, exception: BaseException | None) -> None:
        """Set the outcome, unless the future was cancelled meanwhile."""
        with self._condition:
            if self._state != _base.PENDING:
                return
            self._result = value
            self._exception = exception
            self._state = _base.FINISHED
            for waiter in self._waiters:
                if exception is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]
        # Breaks the cycle that would keep the lane and, with it, its workers alive.
        self._lane = None
