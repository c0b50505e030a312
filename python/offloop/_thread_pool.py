"""The thread lane, in its first form: the standard pool, under our name."""

from __future__ import annotations

import concurrent.futures

__all__ = ["ThreadPool"]


class ThreadPool(concurrent.futures.ThreadPoolExecutor):
    """A pool of threads for calls that wait; accepted by ``loop.set_default_executor``.

    >>> with ThreadPool(2) as pool:
    ...     list(pool.map(len, ["a", "bc"]))
    [1, 2]

    A thread cannot be killed: cancelling the future of a call that runs returns False, and the
    call goes on to its end.
    """
