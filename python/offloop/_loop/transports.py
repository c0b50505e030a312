"""Transports: the standard library's, with the reading and writing of streams in Rust.

The standard class keeps its state in attributes, which its methods read and write. The native half
keeps those that it needs; here they are properties of the same names.

Datagrams and pipes are read as the standard transports do, but never into memory for more than
arrives: new memory of that size may be mapped and unmapped at every read.
"""

from __future__ import annotations

import _socket
import asyncio
import collections
import socket
from asyncio import constants, selector_events, sslproto, trsock
from asyncio.selector_events import (  # type: ignore[attr-defined]
    _SelectorDatagramTransport,
    _SelectorSocketTransport,
    _SelectorTransport,
)
from typing import Any

from _offloop_worker._offloop import Stream, add_stream_methods
from offloop._loop.registry import keep_clients_apart
from offloop._loop.standard import receives_by_system_call, sends_and_receives_by_system_calls

__all__ = ["DatagramTransport", "StreamTransport", "make_stream_transport"]


def _of_stream(name: str) -> property:
    """Return a property that stands for an attribute of the native half."""

    def get(self: StreamTransport) -> Any:
        return getattr(self._native, name)

    def put(self: StreamTransport, value: Any) -> None:
        setattr(self._native, name, value)

    return property(get, put)


def _set_nodelay(sock: socket.socket) -> None:
    """Send small writes at once, also where the standard transport does not: on sockets with
    protocol number 0, such as those that a listening socket of the program's accepts."""
    if (
        sock.proto == 0
        and sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _MaxSize:
    """``max_size`` of a stream: what one read brings at most, unless the protocol has a buffer."""

    def __get__(self, stream: StreamTransport | None, kind: type | None = None) -> int:
        size = _SelectorSocketTransport.max_size if stream is None else stream._native.read_max
        return int(size)

    def __set__(self, stream: StreamTransport, size: int) -> None:
        if size < 0:
            raise ValueError(f"max_size must not be negative: {size!r}")
        stream._native.read_max = size


_get_extra = asyncio.BaseTransport._extra.__get__  # type: ignore[attr-defined]
_set_extra = asyncio.BaseTransport._extra.__set__  # type: ignore[attr-defined]
_get_extra_info = asyncio.BaseTransport.get_extra_info


class StreamTransport(_SelectorSocketTransport):  # type: ignore[misc]
    """A TCP or Unix stream connection."""

    # What the standard constructors assign. Any other attribute would need a dictionary; without it
    # a connection takes 300 bytes less.
    __slots__ = (
        "_native",
        "_protocol",
        "_protocol_connected",
        "_read_ready_cb",
        "_server",
        "_used_socket",
        "_sock_fd",
        "_own_socket",
        # From Python 3.12 on an attribute, a method before.
        *(() if hasattr(_SelectorSocketTransport, "_write_ready") else ("_write_ready",)),
    )

    _native: Stream
    _used_socket: Any
    _own_socket: Any

    max_size: int = _MaxSize()  # type: ignore[assignment]
    _closing = _of_stream("closing")
    _paused = _of_stream("paused")
    _eof = _of_stream("eof")
    _conn_lost = _of_stream("lost")
    _protocol_paused = _of_stream("protocol_paused")
    _high_water = _of_stream("high_water")
    _low_water = _of_stream("low_water")
    _empty_waiter = _of_stream("empty_waiter")
    # From Python 3.15 on: where the protocol's methods are called.
    _context = _of_stream("context")

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        *further: Any,
        **named: Any,
    ) -> None:
        self._used_socket = None
        self._native = Stream(loop, sock, self)
        self.max_size = _SelectorSocketTransport.max_size
        self._native.enter_registry()
        _set_nodelay(sock)
        keep_clients_apart(server, loop)
        super().__init__(loop, sock, protocol, waiter, extra, server, *further, **named)
        self._pack_extra(sock)
        if "_write_ready" in StreamTransport.__slots__:
            # Not called here. The standard class sets it to None when it is closed.
            self._write_ready = None

    def _pack_extra(self, sock: socket.socket) -> None:
        """Keep what the standard constructor has found out in less memory."""
        extra, loop = self._extra, self._loop
        # Connections that a server has accepted have one name on this side, and need one object.
        name = extra["sockname"]
        if name == loop._last_sockname:
            extra["sockname"] = name = loop._last_sockname
        else:
            loop._last_sockname = name
        self._own_socket = sock
        if extra.keys() == {"peername", "socket", "sockname"}:
            self._native.keep_names(extra["peername"], name)
            _set_extra(self, None)

    @property
    def _sock(self) -> Any:
        """The socket; the standard class closes it, and sets it to None."""
        return self._used_socket

    @_sock.setter
    def _sock(self, sock: Any) -> None:
        known, self._used_socket = self._used_socket, sock
        if known is not None and sock is not None and sock is not known:
            _leave_to_standard(self)

    @property
    def _extra(self) -> dict[str, Any]:
        """The dictionary of the standard transport, made when it is asked for."""
        extra: dict[str, Any] | None = _get_extra(self)
        if extra is None:
            names = ("peername", "socket", "sockname")
            extra = {name: self._known(name) for name in names}
            _set_extra(self, extra)
        return extra

    @_extra.setter
    def _extra(self, extra: dict[str, Any] | None) -> None:
        _set_extra(self, extra)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection: ``peername``, ``socket``, ``sockname``."""
        if asyncio.BaseTransport.get_extra_info is not _get_extra_info:
            # A test or a tool has exchanged the method that the standard transports have, and may
            # look at what it is called with.
            given = (name,) if default is None else (name, default)
            return super().get_extra_info(*given)
        extra = _get_extra(self)
        if extra is not None:
            return extra.get(name, default)
        return self._known(name, default)

    def _known(self, name: str, default: Any = None) -> Any:
        """What the dictionary would hold, as long as there is none."""
        if name == "peername":
            return self._native.peername
        if name == "sockname":
            return self._native.sockname
        if name != "socket":
            return default
        if not isinstance(self._own_socket, trsock.TransportSocket):
            self._own_socket = trsock.TransportSocket(self._own_socket)
        return self._own_socket

    @property
    def _buffer(self) -> Stream:
        """What waits to be sent; its length says whether there is anything."""
        return self._native

    @_buffer.setter
    def _buffer(self, _queue: Any) -> None:
        """Take no notice: the queue that the standard constructor makes is not used."""

    @property
    def _buffer_size(self) -> int:
        """How much waits to be sent; from Python 3.15 on the standard class counts it here."""
        return self._native.size()

    @_buffer_size.setter
    def _buffer_size(self, _size: int) -> None:
        """Take no notice: it is the queue's, which is cleared by itself."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what arrives to another protocol from now on."""
        # Past the class above, which chooses a method of its own for reading.
        _SelectorTransport.set_protocol(self, protocol)
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
        if self._native.postpone_loss(exc):
            return
        try:
            super()._call_connection_lost(exc)
        finally:
            self._native.detach()


add_stream_methods(StreamTransport)


class _Unsent:
    """What waits to be sent by Python, and how much from Python 3.15 on."""

    def __init__(self, buffer: Any, size: int) -> None:
        self.buffer = buffer
        self.size = size


class ExchangedSocketTransport(StreamTransport):
    """A connection whose socket the program has exchanged: for one of TLS, or for one that counts.

    The standard class asks the socket for everything; so it does all here. Its objects were made as
    those of the base, so there is no room for a further attribute: what waits to be sent is kept
    where the socket was, which the dictionary of extra information has by then.
    """

    __slots__ = ()

    write = _SelectorSocketTransport.write
    writelines = _SelectorSocketTransport.writelines
    get_write_buffer_size = _SelectorSocketTransport.get_write_buffer_size
    set_protocol = _SelectorSocketTransport.set_protocol
    _add_reader = _SelectorSocketTransport._add_reader

    @property
    def _buffer(self) -> Any:
        return self._own_socket.buffer

    @_buffer.setter
    def _buffer(self, buffer: Any) -> None:
        self._own_socket.buffer = buffer

    @property
    def _buffer_size(self) -> int:
        size: int = self._own_socket.size
        return size

    @_buffer_size.setter
    def _buffer_size(self, size: int) -> None:
        self._own_socket.size = size


def _leave_to_standard(stream: StreamTransport) -> None:
    """Let the standard class read and write, by the socket that the program has put there.

    Below the standard library's TLS the native half goes on as before.
    """
    if type(stream) is not StreamTransport or stream._conn_lost:
        return
    if isinstance(stream._protocol, sslproto.SSLProtocol):
        return
    loop, fd = stream._loop, stream._sock_fd
    reads = loop._remove_reader(fd)
    loop._remove_writer(fd)
    unsent = stream._native.hand_over()
    # From now on the dictionary has the socket of the connection's extra information.
    stream._extra = stream._extra
    queues = hasattr(stream, "_write_sendmsg")  # From Python 3.12 on.
    chunks = collections.deque(unsent) if queues else bytearray().join(unsent)
    stream.__class__ = ExchangedSocketTransport
    stream._own_socket = _Unsent(chunks, sum(map(len, unsent)))
    if not stream._closing:
        stream.set_protocol(stream._protocol)
    # Sockets of TLS have no `sendmsg`.
    is_tls = hasattr(stream._sock, "do_handshake")
    if queues:
        stream._write_ready = stream._write_send if is_tls else stream._write_sendmsg
    if reads:
        loop._add_reader(fd, stream._read_ready)
    if unsent:
        loop._add_writer(fd, stream._write_ready)


def make_stream_transport(loop: Any, sock: Any, *arguments: Any, **keywords: Any) -> Any:
    """Return the transport of a stream: the standard one for a socket with methods of its own.

    Programs override them to go through a proxy, to count or to pretend. The standard transport
    calls them.
    """
    is_plain = sends_and_receives_by_system_calls(sock)
    kind = StreamTransport if is_plain else _SelectorSocketTransport
    return kind(loop, sock, *arguments, **keywords)


class _Connected:
    """A connected socket whose peer has no name: what is sent without an address goes to the peer.

    The standard transport tells a connected socket by its peer's name.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendto(self, data: Any, address: Any) -> Any:
        sock = self._sock
        return sock.send(data) if address is None else sock.sendto(data, address)


_receive_from_into: Any = _socket.socket.recvfrom_into


class DatagramTransport(_SelectorDatagramTransport):  # type: ignore[misc]
    """A datagram endpoint, IP or Unix."""

    _sock: Any

    def _is_one_of_a_pair(self) -> bool:
        peername = self._extra["peername"]
        return peername is not None and not peername

    def _with_peer(self, method: Any, *arguments: Any) -> None:
        """Call a method of the standard transport that sends to the nameless peer."""
        sock = self._sock
        self._sock = _Connected(sock)
        try:
            method(*arguments)
        finally:
            # Unless the connection is over by now.
            if self._sock is not None:
                self._sock = sock

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram; without an address, to the peer of the connected socket."""
        if self._sock is not None and self._is_one_of_a_pair():
            self._with_peer(super().sendto, data, addr)
        else:
            super().sendto(data, addr)

    def _sendto_ready(self) -> None:
        if self._sock is not None and self._is_one_of_a_pair():
            self._with_peer(super()._sendto_ready)
        else:
            super()._sendto_ready()

    def _read_ready(self) -> None:
        sock = self._sock
        memory = self._loop._datagram_memory
        if not receives_by_system_call(sock) or self.max_size != len(memory):
            super()._read_ready()
            return
        if self._conn_lost:
            return
        try:
            size, address = _receive_from_into(sock, memory)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except OSError as exc:
            self._protocol.error_received(exc)
            return
        except BaseException as exc:
            self._fatal_error(exc, "Fatal read error on datagram transport")
            return
        self._protocol.datagram_received(bytes(memory[:size]), address)
