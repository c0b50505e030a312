"""Whether something of the standard library is still the library's own, or the program's.

Where a native half does what a Python method would have done, the method is not called. So it is
looked first whether the program has put another one in its place: in a subclass, in an object, in a
class or a module of the standard library. What is asked for often compares with what was there when
this module was imported; what may have been replaced before is known by where it comes from.
"""

from __future__ import annotations

import _posixsubprocess
import _socket
import socket
import subprocess
import types
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "is_function_of",
    "receives_by_system_call",
    "sends_and_receives_by_system_calls",
    "starts_children_in_its_way",
]

_STREAM_METHODS = {
    name: getattr(_socket.socket, name)
    for name in ("fileno", "recv", "recv_into", "send", "sendmsg")
}
_receive_from = _socket.socket.recvfrom


def is_function_of(modules: Iterable[Mapping[str, Any]], method: Any) -> bool:
    """Whether a method is a function of one of these modules, given by their names."""
    # A wrapper may say of itself what it knows of the function in it.
    return type(method) is types.FunctionType and any(
        method.__globals__ is names for names in modules
    )


def sends_and_receives_by_system_calls(sock: Any) -> bool:
    """Whether the methods of a stream's socket are the system's calls and nothing else."""
    kind = type(sock)
    if any(getattr(kind, name, None) is not method for name, method in _STREAM_METHODS.items()):
        return False
    return (
        kind is socket.socket or not _STREAM_METHODS.keys() & getattr(sock, "__dict__", {}).keys()
    )


def receives_by_system_call(sock: Any) -> bool:
    """Whether a socket's datagrams are received by the system call and nothing else."""
    kind = type(sock)
    if getattr(kind, "recvfrom", None) is not _receive_from:
        return False
    return kind is socket.socket or "recvfrom" not in getattr(sock, "__dict__", ())


def starts_children_in_its_way() -> bool:
    """Whether the program has left the standard library's way to start a child alone."""
    # The switch is documented until Python 3.13: it forbids that a child borrows our memory. In
    # 3.14 it is gone.
    switch = getattr(subprocess, "_USE_VFORK", True)
    way = subprocess._fork_exec  # type: ignore[attr-defined]
    return bool(switch) and way is _posixsubprocess.fork_exec
