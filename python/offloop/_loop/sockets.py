"""Calls on the program's own sockets: tried at once in Rust, and finished there.

What is unusual (a class of the program's own, odd arguments, debug mode) is left to the standard
library's methods, with their checks and errors. Each method gets its result at once, or a future,
or ``None`` for the unusual.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from _offloop_worker._offloop import LoopCore

__all__ = ["SocketMethods"]


class SocketMethods(LoopCore, asyncio.SelectorEventLoop):
    """The ``sock_*`` methods that a program calls for each packet."""

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive at most ``n`` bytes; none means that the other side has ended."""
        received = self._receive(sock, n)
        if type(received) is bytes:
            return received
        if received is None:
            return await super().sock_recv(sock, n)
        try:
            return await received  # type: ignore[misc, no-any-return]
        except BaseException:
            self._stop_waiting(sock, received)
            raise

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a buffer; return how many bytes."""
        received = self._receive_into(sock, buf)
        if type(received) is int:
            return received
        if received is None:
            return await super().sock_recv_into(sock, buf)
        try:
            return await received  # type: ignore[misc, no-any-return]
        except BaseException:
            self._stop_waiting(sock, received)
            raise

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of ``data``."""
        sent = self._send_all(sock, data)
        if sent is True:
            return
        if sent is None:
            await super().sock_sendall(sock, data)
            return
        try:
            await sent  # type: ignore[misc]
        except BaseException:
            self._stop_waiting(sock, sent)
            raise
