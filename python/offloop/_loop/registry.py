"""Which transports a loop and its servers have, without keeping those alive.

The standard loop has a weak reference to each, and a server another one. Streams, of which there
may be many, are known to the native half, and cost nothing here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any

from _offloop_worker._offloop import LoopCore, Stream

__all__ = ["Transports", "keep_clients_apart"]


def _stream_of(transport: Any) -> Stream | None:
    """The native half of a transport that is in the loop's registry."""
    native = getattr(transport, "_native", None)
    return native if isinstance(native, Stream) else None


class Transports(MutableMapping[int, Any]):
    """Descriptor -> transport, in place of the standard loop's weak dictionary."""

    def __init__(self, loop: LoopCore) -> None:
        # The loop has us, and is to be freed without the collector.
        self._loop = weakref.ref(loop)
        self._others: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        # What calls on sockets look at, under the name that it has in the standard one.
        self.data = self._others.data  # type: ignore[attr-defined]

    def _stream_at(self, fd: int) -> Any:
        loop = self._loop()
        return None if loop is None else loop._stream_at(fd)

    def __getitem__(self, fd: int) -> Any:
        transport = self._stream_at(fd)
        return self._others[fd] if transport is None else transport

    def get(self, fd: int, default: Any = None) -> Any:
        """Return the transport that has a descriptor."""
        transport = self._stream_at(fd)
        return self._others.get(fd, default) if transport is None else transport

    def __setitem__(self, fd: int, transport: Any) -> None:
        stream = _stream_of(transport)
        if stream is not None:
            stream.listed = True
            self._others.pop(fd, None)
            return
        before = self._stream_at(fd)
        if before is not None:
            before._native.listed = False
        self._others[fd] = transport

    def __delitem__(self, fd: int) -> None:
        transport = self._stream_at(fd)
        if transport is None:
            del self._others[fd]
        else:
            transport._native.listed = False

    def __iter__(self) -> Iterator[int]:
        loop = self._loop()
        streams = (t for t in (loop._streams() if loop else ()) if t._native.listed)
        return iter([*(transport._sock_fd for transport in streams), *self._others])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Clients:
    """The transports of a server, in place of its weak set."""

    __slots__ = ("_count", "_loop", "_others", "_server")

    def __init__(self, server: Any, loop: LoopCore) -> None:
        self._server = weakref.ref(server)
        self._loop = loop
        self._others: weakref.WeakSet[Any] = server._clients
        self._count = 0

    def add(self, transport: Any) -> None:
        stream = _stream_of(transport)
        if stream is None:
            self._others.add(transport)
        elif not stream.attached:
            stream.attached = True
            self._count += 1

    def discard(self, transport: Any) -> None:
        stream = _stream_of(transport)
        if stream is None:
            self._others.discard(transport)
        elif stream.attached:
            stream.attached = False
            self._count -= 1

    def __len__(self) -> int:
        return self._count + len(self._others)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.copy())

    def copy(self) -> set[Any]:
        server = self._server()
        transports = (t for t in self._loop._streams() if t._native.attached)
        return {t for t in transports if t._server is server}.union(self._others)


def keep_clients_apart(server: Any, loop: LoopCore) -> None:
    """Have a server of the standard class count streams in our way; from Python 3.13 on it does."""
    if type(getattr(server, "_clients", None)) is weakref.WeakSet:
        server._clients = _Clients(server, loop)
