"""Child processes and pipes: the standard library's transports, over native starts and reads.

A child is started by ``subprocess.Popen``, whose one slow step is done in Rust, and watched by a
descriptor of its process in the loop's own poll: there is no signal handler, no thread, and nothing
that depends on which thread the loop runs in.
"""

from __future__ import annotations

import asyncio
import signal as signals
import subprocess
import sys
from asyncio import unix_events
from typing import Any

from _offloop_worker._offloop import Child, add_pipe_methods
from offloop._loop.standard import starts_children_in_its_way

__all__ = ["ChildTransport", "ReadPipeTransport", "are_watched_here"]

_StandardChild: Any = unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
_StandardReadPipe: Any = unix_events._UnixReadPipeTransport  # type: ignore[attr-defined]
logger = unix_events.logger  # type: ignore[attr-defined]

_StandardPopen = subprocess.Popen
_PARAMETERS = _StandardPopen._execute_child.__code__.co_varnames[  # type: ignore[attr-defined]
    1 : _StandardPopen._execute_child.__code__.co_argcount  # type: ignore[attr-defined]
]


TRACED_SECONDS = 0.05
"""How often an ended child is looked at whose debugger has not let it go."""


def are_watched_here(loop: Any) -> bool:
    """Return whether the children of ``loop`` are watched by our descriptors.

    They are not where the system has no such descriptors, and where the program has chosen a child
    watcher of another kind than it would get by default.
    """
    if not Child.can_watch():
        return False
    if sys.version_info >= (3, 14):
        return type(loop._watcher) is unix_events._PidfdChildWatcher
    policy: Any = asyncio.get_event_loop_policy()
    standard = unix_events._UnixDefaultEventLoopPolicy
    if type(policy).get_child_watcher is not standard.get_child_watcher:
        return False
    if sys.version_info >= (3, 12):
        default = unix_events.PidfdChildWatcher
    else:
        default = unix_events.ThreadedChildWatcher
    return policy._watcher is None or type(policy._watcher) is default


class Popen(_StandardPopen[bytes]):
    """The standard class with a native ``_execute_child``, for all but unusual arguments."""

    _child: Child | None = None

    def _execute_child(self, *given: Any) -> None:
        arguments = dict(zip(_PARAMETERS, given, strict=True))
        # An iterator gives them once only.
        arguments["pass_fds"] = tuple(arguments["pass_fds"])
        if starts_children_in_its_way():
            self._child = Child.start(arguments)
        if self._child is None:
            super()._execute_child(*arguments.values())  # type: ignore[misc]
            return
        self.pid = self._child.pid
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*map(arguments.__getitem__, ends))  # type: ignore[attr-defined]


class ChildTransport(_StandardChild):  # type: ignore[misc]
    """A child process, whose end is told by a descriptor."""

    _child: Child

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        # A program may have put another class in the place of the standard one.
        factory = Popen if subprocess.Popen is _StandardPopen else subprocess.Popen
        process = factory(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )
        try:
            self._child = getattr(process, "_child", None) or Child.watch(process.pid)
            self._loop._add_reader(self._child.fileno(), self._child_ended)
        except BaseException:
            # Its end would not be noticed.
            process.kill()
            process.__exit__(None, None, None)
            raise
        self._proc = process

    def _child_ended(self) -> None:
        child, process = self._child, self._proc
        # Before the descriptor closes: a process that is forked just now keeps a copy, which epoll
        # would go on to report.
        fd = child.fileno()
        self._loop._remove_reader(fd)
        try:
            returncode = child.take_status()
        except ChildProcessError:
            returncode = process.returncode
            if returncode is None:
                returncode = 255
                logger.warning(
                    "child process pid %d exit status already read:  will report returncode 255",
                    child.pid,
                )
        if returncode is None:
            # Traced by a debugger, which is told first, and until then the descriptor goes on being
            # readable.
            self._loop.call_later(TRACED_SECONDS, self._loop._add_reader, fd, self._child_ended)
        else:
            # As from the standard watchers: after what the pipes have brought.
            self._loop._child_watcher_callback(child.pid, returncode, self)

    def send_signal(self, signal: int) -> None:
        """Send a signal to the child, unless it has ended."""
        self._check_proc()
        sys.audit("os.kill", self._child.pid, signal)
        self._child.send_signal(signal)

    def terminate(self) -> None:
        """Ask the child to end."""
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        """End the child."""
        self.send_signal(signals.SIGKILL)


class ReadPipeTransport(_StandardReadPipe):  # type: ignore[misc]
    """The read end of a pipe."""

    def is_reading(self) -> bool:
        """Return whether it reads what arrives."""
        return not self._paused and not self._closing

    def _end_of_file(self) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._loop._remove_reader(self._fileno)
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)


add_pipe_methods(ReadPipeTransport)
