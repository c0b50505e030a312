"""``offloop top``: a running program in a terminal, all of which is done by the extension."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from _offloop_worker._offloop import top

__all__ = ["run_top"]


def _end(number: int, frame: FrameType | None) -> None:
    """Have the terminal given back before the signal ends this process."""
    sys.exit(128 + number)


def run_top(pid: int | None, *, once: bool, as_json: bool, every_seconds: float) -> int:
    """Show a program until a key ends it; the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        trouble, status = top(pid, once=once, as_json=as_json, every_seconds=every_seconds)
    except KeyboardInterrupt:
        return 0
    if trouble is not None:
        click.echo(f"offloop top: {trouble}", err=True)
    return status
