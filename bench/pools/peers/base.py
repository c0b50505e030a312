"""What every peer must offer: a call from asyncio, in the way its own users would write it."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Peer(abc.ABC):
    """A pool of worker processes that is reached from a running asyncio loop."""

    #: Whether the peer's deadline counts from the start of the call; if not, from its submission.
    deadline_from_start = False

    @abc.abstractmethod
    async def open(self, workers: int) -> None:
        """Make the pool. Packages are imported before, when the peer is made."""

    @abc.abstractmethod
    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit a call, and return what its users would await."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the pool after its calls have ended, as its users would."""

    def start(self, fn: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Submit a call, and return a future that can be cancelled."""
        return asyncio.ensure_future(self.begin(fn, *args))

    async def begin_with_deadline(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a call that should take no longer than this, by the peer's best means.

        A peer without deadlines of its own gets the one of asyncio.
        """
        return await asyncio.wait_for(self.begin(fn, *args), seconds)


class ExecutorPeer(Peer):
    """A pool in the manner of ``concurrent.futures``, under ``loop.run_in_executor``."""

    def __init__(self) -> None:
        self._pool: Any = None

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit through the loop's executor interface."""
        return asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    async def close(self) -> None:
        """Leave the pool as ``with`` does."""
        self._pool.shutdown(wait=True)


class CallbackPeer(Peer):
    """A pool in the manner of ``multiprocessing.Pool``, which answers by callbacks."""

    def __init__(self) -> None:
        self._pool: Any = None

    def begin(self, fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Submit with callbacks that hand the outcome to the loop's thread."""
        return self._apply(fn, args, {})

    def _apply(
        self, fn: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def succeed(result: Any) -> None:
            loop.call_soon_threadsafe(_resolve, future, result, None)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(_resolve, future, None, error)

        handle = self._pool.apply_async(fn, args, callback=succeed, error_callback=fail, **options)
        self._started(handle, future)
        return future

    async def close(self) -> None:
        """Close and join."""
        self._pool.close()
        self._pool.join()

    def _started(self, handle: Any, future: asyncio.Future[Any]) -> None:
        """Connect the cancellation of the future with the pool's own means, if it has any."""


def _resolve(future: asyncio.Future[Any], result: Any, error: Any) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        # Some pools wrap the exception in a record of their own.
        exception = getattr(error, "exception", error)
        future.set_exception(
            exception if isinstance(exception, BaseException) else RuntimeError(str(error))
        )
