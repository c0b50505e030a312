"""Stream transports: the standard library's, with reading and writing in Rust.

The standard class keeps its state in attributes, which its methods read and write. Those that the
native half must know are kept there, and are seen here as properties of the same names.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import constants, selector_events
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from typing import Any

from _offloop_worker._offloop import Stream, add_stream_methods

__all__ = ["StreamTransport"]


def _of_stream(name: str) -> property:
    """Return a property that stands for an attribute of the native half."""

    def get(self: StreamTransport) -> Any:
        return getattr(self._native, name)

    def put(self: StreamTransport, value: Any) -> None:
        setattr(self._native, name, value)

    return property(get, put)


class StreamTransport(_SelectorSocketTransport):  # type: ignore[misc]
    """A TCP or Unix stream connection."""

    _native: Stream

    _closing = _of_stream("closing")
    _paused = _of_stream("paused")
    _eof = _of_stream("eof")
    _conn_lost = _of_stream("lost")
    _protocol_paused = _of_stream("protocol_paused")
    _high_water = _of_stream("high_water")
    _low_water = _of_stream("low_water")
    _empty_waiter = _of_stream("empty_waiter")

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> None:
        self._native = Stream(loop, sock.fileno(), self)
        super().__init__(loop, sock, protocol, waiter, extra, server)

    @property
    def _buffer(self) -> Stream:
        """What waits to be sent; its length says whether there is anything."""
        return self._native

    @_buffer.setter
    def _buffer(self, _queue: Any) -> None:
        """Take no notice: the queue that the standard constructor makes is not used."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what arrives to another protocol from now on."""
        super().set_protocol(protocol)
        self._native.set_protocol(protocol, isinstance(protocol, asyncio.BufferedProtocol))

    def _add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        if self.is_reading():
            self._native.start_reading()

    def _write_after_loss(self) -> None:
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            selector_events.logger.warning(  # type: ignore[attr-defined]
                "socket.send() raised exception."
            )
        self._conn_lost += 1

    def _shut_down_writing(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            super()._call_connection_lost(exc)
        finally:
            self._native.detach()


add_stream_methods(StreamTransport)
