"""The parent's side of a gate, bounded waits for processes, and programs run as users run them."""

import contextlib
import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from calls import Gate

PATIENCE_SECONDS = 20.0
"""How long a test waits for an event that must come. It is reached only by a failing test."""


class OpenGate:
    """Two named pipes held open for reading and writing, so that neither end ever sees the end."""

    def __init__(self, directory: Path) -> None:
        self.paths = Gate(str(directory / "started"), str(directory / "released"))
        os.mkfifo(self.paths.started)
        os.mkfifo(self.paths.released)
        self._started = os.open(self.paths.started, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._released = os.open(self.paths.released, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._unread = b""

    def wait_started(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until a call has reported, and return its process id."""
        return int(self.wait_report(seconds)[0])

    def wait_report(self, seconds: float = PATIENCE_SECONDS) -> tuple[str, str]:
        """Wait for the next report: process id and text."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not is_readable(self._started, left):
                raise AssertionError(f"no call reported within {seconds} s")
            self._unread += os.read(self._started, 65536)
        line, self._unread = self._unread.split(b"\n", 1)
        pid, text = line.decode().split(" ", 1)
        return pid, text

    def has_report(self) -> bool:
        """Whether a call has reported and the test has not read it."""
        return b"\n" in self._unread or is_readable(self._started, 0)

    def release(self, calls: int = 1) -> None:
        """Let that many waiting calls go on."""
        os.write(self._released, b"." * calls)

    def close(self) -> None:
        """Close both pipes."""
        os.close(self._started)
        os.close(self._released)


class Watched:
    """A process seen through a pidfd, so that its end is an event and its id cannot be reused."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def wait_exit(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Fail unless the process ends within the bound."""
        if not self.has_ended(seconds):
            raise AssertionError(f"process {self.pid} still lives after {seconds} s")

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or ends within `seconds`."""
        return is_readable(self._descriptor, seconds)

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._descriptor)


def is_readable(descriptor: int, seconds: float) -> bool:
    """Whether a descriptor, whatever its number, has something to read within the bound."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Look at a counter that has no event of its own until it is as expected, within a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds} s: {condition}")
        select.select([], [], [], 0.005)


def descendants(pid: int) -> list[int]:
    """The process ids of everything below `pid`."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = children_of(pending.pop())
        found += children
        pending += children
    return found


def children_of(pid: int) -> list[int]:
    """The children of every thread of a process, zombies included; none if it is gone."""
    found: list[int] = []
    # The process may end meanwhile, or one of its threads.
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                listing = Path(f"/proc/{pid}/task/{task}/children")
                found += map(int, listing.read_text().split())
    return found


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def start_program(
    directory: Path, source: str, *arguments: str, env_changes=None, **options
) -> "subprocess.Popen[str]":
    """Start a script in an interpreter of its own, as a user would, and return the process."""
    script = directory / "program.py"
    script.write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    environment.update(env_changes or {})
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def run_program(
    directory: Path, source: str, *arguments: str, seconds: float = 40.0, **options
) -> "subprocess.CompletedProcess[str]":
    """Run a script to its end, within a bound."""
    with start_program(directory, source, *arguments, **options) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise AssertionError(
                f"the program did not end within {seconds} s\n{output}\n{errors}"
            ) from None
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
