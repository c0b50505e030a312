"""TLS connections: the standard library's protocol, with its records done in Rust.

The standard protocol does the handshake, the shutdown, time limits and flow control, in the form
that the running Python version has. What it does for each packet goes to the native half once the
handshake is done. A connection that the native half cannot take over stays with the standard code.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import base_events, selector_events, sslproto
from collections.abc import Callable
from typing import Any

from _offloop_worker._offloop import Tls, add_tls_methods, register_tls_protocol
from offloop._loop.transports import StreamTransport, make_stream_transport

__all__ = ["TlsProtocol", "SSLTransport", "make_ssl_transport", "start_tls"]

_State: Any = sslproto.SSLProtocolState


class SSLTransport(sslproto._SSLProtocolTransport):
    """What the program writes to. Programs look for the letters of its name, and tests do."""

    def __init__(self, loop: Any, ssl_protocol: TlsProtocol, *further: Any, **named: Any) -> None:
        super().__init__(loop, ssl_protocol, *further, **named)
        self._tls = ssl_protocol._tls

    def _write_standard(self, data: Any) -> None:
        """Do what the standard class does now, which a program may have changed."""
        super().write(data)

    def _writelines_standard(self, list_of_data: Any) -> None:
        super().writelines(list_of_data)


add_tls_methods(SSLTransport)


class _Incoming:
    """What was received, in place of the buffer that the standard protocol reads."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.write = tls.receive

    @property
    def pending(self) -> int:
        return self._tls.received()


class _Outgoing:
    """What is to be sent, in place of the buffer that the standard protocol writes."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.read = tls.take_unsent

    @property
    def pending(self) -> int:
        return self._tls.unsent()


def _of_tls(name: str) -> property:
    """Return a property that stands for an attribute of the native half."""

    def get(self: TlsProtocol) -> Any:
        return getattr(self._tls, name)

    def put(self: TlsProtocol, value: Any) -> None:
        setattr(self._tls, name, value)

    return property(get, put)


# What the type stubs lack of the standard class.
_Standard: Any = sslproto.SSLProtocol


_PASSED_BY: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (sslproto._SSLProtocolTransport, ("write", "writelines")),
    (
        _Standard,
        (
            "_do_read",
            "_do_read__buffered",
            "_do_read__copied",
            "_do_write",
            "_get_app_transport",
            "_process_outgoing",
            "_write_appdata",
            "buffer_updated",
        ),
    ),
)
"""What the standard library has for packets, and the native half does in its place."""


def _is_replaced(owner: Any, name: str) -> bool:
    """Return whether a program has put something else in the place of a standard method."""
    method = vars(owner).get(name)
    code = getattr(method, "__code__", None)
    if code is None or method.__globals__ is not vars(sslproto):
        return True
    return bool(code.co_qualname != f"{owner.__name__}.{name}")


def _is_passed_by_unseen() -> bool:
    """Return whether the native half may work: no replaced method waits for what it passes by."""
    return not any(_is_replaced(owner, name) for owner, names in _PASSED_BY for name in names)


class TlsProtocol(_Standard):  # type: ignore[misc]
    """What stands between a stream and the program's protocol."""

    _app_transport: Any
    _app_transport_created: bool
    _incoming: Any
    _outgoing: Any

    _app_reading_paused = _of_tls("app_reading_paused")
    _app_writing_paused = _of_tls("app_writing_paused")
    _ssl_reading_paused = _of_tls("ssl_reading_paused")
    _ssl_writing_paused = _of_tls("ssl_writing_paused")
    _incoming_high_water = _of_tls("incoming_high_water")
    _incoming_low_water = _of_tls("incoming_low_water")
    _outgoing_high_water = _of_tls("outgoing_high_water")
    _outgoing_low_water = _of_tls("outgoing_low_water")

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._tls = Tls()
        # The standard buffer is for streams that are not ours: it is made when one asks for it.
        self.max_size = 0
        super().__init__(*arguments, **keywords)
        del self.max_size

    @property
    def _state(self) -> Any:
        return self._standard_state

    @_state.setter
    def _state(self, state: Any) -> None:
        self._standard_state = state
        self._tls.set_phase(state.name)

    def _set_app_protocol(self, app_protocol: asyncio.BaseProtocol) -> None:
        super()._set_app_protocol(app_protocol)
        self._tls.set_protocol(app_protocol, isinstance(app_protocol, asyncio.BufferedProtocol))

    def _get_app_transport(self) -> Any:
        if _is_replaced(_Standard, "_get_app_transport"):
            return super()._get_app_transport()
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake."""
        stream = transport._native if type(transport) is StreamTransport else None
        self._tls.connect(self, stream)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the program's protocol, and let go of everything."""
        super().connection_lost(exc)
        self._tls.detach()

    def _receive(self, data: bytes) -> None:
        """Go on with what came before the native half has taken over."""
        self._incoming.write(data)
        self.buffer_updated(0)

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is None and _is_passed_by_unseen():
            tls, context, buffers = self._tls, self._sslcontext, (self._incoming, self._outgoing)
            if tls.take_over(self._sslobj, context, *buffers, self._write_backlog):
                self._incoming, self._outgoing = _Incoming(tls), _Outgoing(tls)
        try:
            super()._on_handshake_complete(handshake_exc)
        finally:
            # Its traceback leads to this stack entry.
            del handshake_exc

    def _do_read(self) -> None:
        if self._tls.taken:
            if self._state in (_State.WRAPPED, _State.FLUSHING):
                self._tls.read()
        else:
            super()._do_read()


register_tls_protocol(TlsProtocol)


class _OurClasses:
    """What stands for the module `sslproto` where the standard loop makes a protocol."""

    @property
    def SSLProtocol(self) -> Any:
        """Our protocol, unless a program has put one of its own in the standard one's place."""
        chosen = vars(sslproto)["SSLProtocol"]
        return TlsProtocol if chosen is _Standard else chosen


def _with_our_classes(function: Callable[..., Any]) -> Any:
    """Return a method of the standard loop that makes our protocol and transport instead."""
    names = {
        **function.__globals__,
        "sslproto": _OurClasses(),
        "_SelectorSocketTransport": make_stream_transport,
    }
    method = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    method.__kwdefaults__ = function.__kwdefaults__
    method.__doc__ = function.__doc__
    return method


make_ssl_transport = _with_our_classes(
    selector_events.BaseSelectorEventLoop._make_ssl_transport  # type: ignore[attr-defined]
)
start_tls = _with_our_classes(base_events.BaseEventLoop.start_tls)
