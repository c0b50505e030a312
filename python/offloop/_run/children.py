"""Processes that the program starts by ``multiprocessing`` belong to the run, too.

Forked ones inherit everything, and one that starts from nothing joins (`_offloop_worker.joining`).
So the workers of ``uvicorn --workers`` and the program under ``uvicorn --reload`` have the loop,
the adopted pools and the watch that their parent was asked for.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import TYPE_CHECKING, Any

from _offloop_worker.joining import tell_children

if TYPE_CHECKING:
    from offloop._run.session import Settings
    from offloop._watch import Stall

__all__ = ["Strictness", "Teller", "begin", "install"]


def install(settings: Settings) -> None:
    """Have the processes join that start from now on."""
    told = dataclasses.asdict(settings)
    # Files are written by the first process alone.
    del told["tape"]
    tell_children(told)


def begin(settings: dict[str, Any]) -> None:
    """Put in place what the parent was asked for; its report is the parent's alone."""
    from offloop._run.session import Session, Settings

    # The report and the page are the first process's.
    Session().install(Settings(**{**settings, "report": False, "page": None}))


class Strictness:
    """Where the processes of a strict run tell the first of them that a loop was blocked."""

    def __init__(self) -> None:
        self._first = os.getpid()
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        # A name without a file: nothing is left behind.
        self.address = f"\0offloop-run-{self._first}-{os.urandom(8).hex()}"
        self._told.bind(self.address)

    def was_told(self) -> bool:
        """Whether one of them was blocked; for the first process, and only once."""
        if os.getpid() != self._first:
            return False
        try:
            return bool(self._told.recv(1))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Hear no more."""
        self._told.close()


class Teller:
    """Tells the first process of a strict run of a stall."""

    def __init__(self, address: str) -> None:
        self._told_at = address

    def __call__(self, stall: Stall) -> None:
        if stall.cause.blames_no_code:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to:
            try:
                to.sendto(b".", self._told_at)
            except (BlockingIOError, ConnectionRefusedError):
                # It was told more often than it can keep, and once is enough; or it has ended.
                return
