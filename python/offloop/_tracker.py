"""The resource tracker of multiprocessing, which the workers share with their program.

The tracker is a process that removes the shared memory and semaphores that were registered with it
once no process can use them any more. The first registration starts it, from any process: until
then there is only a pipe, whose read end the runtime watches.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import types
from typing import Any

from _offloop_worker._offloop import open_tracker_line
from _offloop_worker.imports import when_imported

__all__ = ["descriptor"]

_NAME = "multiprocessing.resource_tracker"
_COMMAND = "from multiprocessing.resource_tracker import main;main(3)"

_lines: list[int] = []
"""The descriptor of our line, while the tracker's module has not taken it over."""


def descriptor(flags: list[str], environment: list[str]) -> int:
    """Where to write to the tracker. The number stays the tracker module's."""
    module = sys.modules.get(_NAME)
    if module is not None and module._resource_tracker._fd is not None:
        return int(module._resource_tracker._fd)
    if module is not None or not _lines:
        program = [sys.executable, *flags, "-c", _COMMAND]
        _lines[:] = [open_tracker_line((sys.executable, program, environment))]
        when_imported(_NAME, _hand_over)
    line = module._resource_tracker._fd if module is not None else _lines[0]
    return int(line)


def _hand_over(module: types.ModuleType) -> None:
    tracker = module._resource_tracker
    if tracker._fd is not None or not _lines:
        return
    line = tracker._fd = _lines.pop()
    # Some versions stop their tracker when the interpreter has taken this module apart already.
    plain_stop, close = tracker._stop, os.close

    def stop(*arguments: Any, **keywords: Any) -> None:
        """Let go of the line. The tracker is not ours to wait for: workers may use it still."""
        del tracker._stop
        if tracker._fd != line:
            plain_stop(*arguments, **keywords)
        else:
            tracker._fd = None
            close(line)

    tracker._stop = stop


def _let_go() -> None:
    """The runtime has ended: what is registered from now on needs a tracker of its own."""
    tracker: Any = getattr(sys.modules.get(_NAME), "_resource_tracker", None)
    if tracker is None or tracker._fd is None or "_stop" not in vars(tracker):
        return
    poll = select.poll()
    poll.register(tracker._fd, select.POLLOUT)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        tracker._stop()


atexit.register(_let_go)
