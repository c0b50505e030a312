"""The event loop: Rust where it is called often, the standard library where it is not."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any, Protocol

from _offloop_worker._offloop import learn_standard_loop
from offloop._loop.registry import Transports
from offloop._loop.replaced import learn_class, make_way
from offloop._loop.selector import WatchedSelector, is_ours
from offloop._loop.sockets import SocketMethods
from offloop._loop.statistics import LagHistogram, LoopStatistics
from offloop._loop.subprocesses import ChildTransport, ReadPipeTransport, are_watched_here
from offloop._loop.tls import make_ssl_transport, start_tls
from offloop._loop.transports import DatagramTransport, make_stream_transport

__all__ = ["EventLoop", "new_event_loop"]

REPLACEABLE = frozenset({"time", "call_at", "_run_once"})
"""What a round does differently when it is an attribute of one loop."""


class LossListener(Protocol):
    """What hears of a loop's reports and of its end, while it is watched."""

    def reported(self, context: dict[str, Any]) -> None:
        """The loop's exception handler is about to be called."""

    def loop_closes(self, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
        """Entered before the loop is closed, and left afterwards."""


class EventLoop(SocketMethods):
    """A drop-in asyncio event loop.

    Everything of ``asyncio.AbstractEventLoop`` is here, in the form that the running Python version
    has. It may be subclassed. Not thread-safe, but for ``call_soon_threadsafe``.

    With ``gather_writes`` streams send what one round of the loop writes to them at its end, in one
    system call, instead of within ``write``: faster where a response is written in pieces, later
    where a callback goes on computing after it has written.

    >>> import asyncio, offloop
    >>> with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
    ...     runner.run(asyncio.sleep(0, "done"))
    'done'
    """

    # What the standard constructors assign. An instance whose dictionary is never needed gets its
    # methods looked up at half the cost, by every ``loop.call_soon`` of a program.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_current_handle",
        "_datagram_memory",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_last_sockname",
        "_losses",
        "_old_agen_hooks",
        "_selector",
        "_signal_handlers",
        "_ssock",
        "_thread_id",
        "_transports",
        "_unix_server_sockets",
        "_watcher",
    )

    def __init__(self, *, gather_writes: bool = False) -> None:
        if not isinstance(gather_writes, bool):
            raise TypeError(f"gather_writes must be True or False, not {gather_writes!r}")
        make_way()
        self._datagram_memory = memoryview(bytearray(0))
        self._last_sockname: object = None
        self._losses: LossListener | None = None
        super().__init__(WatchedSelector(self))  # type: ignore[arg-type]
        self._transports = Transports(self)
        self._set_gather_writes(gather_writes)

    # What tests and tools put into the loop itself, and take away again.

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in REPLACEABLE:
            self._set_replaced(name, True)
        elif name == "_selector" and value is not None:
            self._set_replaced("select", not is_ours(value))

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in REPLACEABLE:
            self._set_replaced(name, False)

    def run_forever(self) -> None:
        """Run until ``stop`` is called."""
        self._check_closed()
        self._check_running()  # type: ignore[attr-defined]
        self._run_forever_setup()
        try:
            while True:
                if self._rounds_are_ours():
                    self._run()
                else:
                    # A subclass, or code that has replaced the method, has rounds of its own.
                    self._run_once()
                if self._stopping:
                    break
        finally:
            self._run_forever_cleanup()

    if sys.version_info < (3, 13):
        # From 3.13 on the standard loop has these two, for subclasses to extend.

        def _run_forever_setup(self) -> None:
            self._set_coroutine_origin_tracking(self._debug)  # type: ignore[attr-defined]
            self._old_agen_hooks = sys.get_asyncgen_hooks()
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
                finalizer=self._asyncgen_finalizer_hook,  # type: ignore[attr-defined]
            )
            asyncio._set_running_loop(self)

        def _run_forever_cleanup(self) -> None:
            self._stopping = False
            self._thread_id = None  # type: ignore[assignment]
            asyncio._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)  # type: ignore[attr-defined]
            sys.set_asyncgen_hooks(*self._old_agen_hooks)

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        **further: Any,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)  # type: ignore[attr-defined]
        return make_stream_transport(  # type: ignore[no-any-return]
            self, sock, protocol, waiter, extra, server, **further
        )

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        **further: Any,
    ) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra, **further)

    async def _make_subprocess_transport(
        self, protocol: asyncio.BaseProtocol, *arguments: Any, **keywords: Any
    ) -> asyncio.SubprocessTransport:
        if not are_watched_here(self):
            standard = super()._make_subprocess_transport  # type: ignore[misc]
            return await standard(protocol, *arguments, **keywords)  # type: ignore[no-any-return]
        waiter = self.create_future()
        transport = ChildTransport(self, protocol, *arguments, waiter=waiter, **keywords)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport

    _make_ssl_transport = make_ssl_transport
    start_tls = start_tls

    def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> DatagramTransport:
        sock = args[0]
        self._ensure_fd_no_transport(sock)  # type: ignore[attr-defined]
        if not self._datagram_memory:
            self._datagram_memory = memoryview(bytearray(DatagramTransport.max_size))
        return DatagramTransport(self, *args, **kwargs)

    def statistics(self) -> LoopStatistics:
        """What the loop has done and is doing: lag, utilisation, counts.

        They count from the making of the loop and go on after ``close``; take the difference of two
        for the time between them. Cheap enough for every second, and safe from any thread, also
        while the loop's own is stuck.

        >>> loop = new_event_loop()
        >>> loop.run_until_complete(asyncio.sleep(0.01))
        >>> loop.statistics().timers_fired
        1
        >>> loop.close()
        """
        fields: dict[str, Any] = {**self._statistics()}
        fields["lag"] = LagHistogram(**fields["lag"])
        fields["timer_lag"] = LagHistogram(**fields["timer_lag"])
        return LoopStatistics(**fields)

    def close(self) -> None:
        """Close the loop: it must not be running, and cannot be used afterwards."""
        losses = self._losses
        if losses is None or self.is_closed() or self.is_running() or sys.is_finalizing():
            self._close()
            return
        with losses.loop_closes(self):
            self._close()

    def _close(self) -> None:
        super().close()
        self._clear_schedule()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report something that no code will handle, as the standard loop does."""
        if self._losses is not None:
            self._losses.reported(context)
        super().call_exception_handler(context)


learn_standard_loop()
learn_class(EventLoop)


def new_event_loop(*, gather_writes: bool = False) -> EventLoop:
    """Return a new event loop; what runners, servers and test plug-ins take as a factory."""
    return EventLoop(gather_writes=gather_writes)
