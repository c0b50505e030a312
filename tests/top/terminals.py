"""A terminal without a window, in which ``offloop top`` runs; and programs to look at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

PATIENCE_SECONDS = 40.0

TOP = [sys.executable, "-m", "offloop", "top"]

SERVICE = """
import asyncio
import sys
import time
from pathlib import Path

gate = Path(sys.argv[1])


def freeze():
    until = time.monotonic() + 60
    while not gate.exists() and time.monotonic() < until:
        time.sleep(0.01)


async def refresh_prices():
    await asyncio.sleep(600)


async def serve():
    task = asyncio.create_task(refresh_prices(), name="prices")
    print("ready", flush=True)
    await asyncio.sleep(0.2)
    freeze()
    print("thawed", flush=True)
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled", flush=True)
    await asyncio.sleep(60)


asyncio.run(serve())
"""
"""Serves until a file appears, and freezes before that."""

ON_OWN_LOOP = """
import asyncio
import sys
import time

import offloop


def compute():
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        pass


async def serve():
    print("ready", flush=True)
    while True:
        await asyncio.sleep(0.01)
        if sys.argv[1] == "busy":
            compute()


offloop.run(serve())
"""
"""Runs on offloop's loop without its watch, idle or busy; nothing can attach to it."""

WORKING = """
import asyncio
import time

import offloop


def nap():
    time.sleep(120)


async def main():
    print("ready", flush=True)
    try:
        await offloop.to_process(nap)
    except offloop.WorkerCrashed:
        print("crashed", flush=True)
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main())
"""
"""Has a worker that runs one long call."""


@contextmanager
def program(
    tmp_path: Path, source: str, *arguments: str, under: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A Python program that has said that it is ready; it is killed at the end."""
    script = tmp_path / "service.py"
    script.write_text(textwrap.dedent(source).lstrip())
    running = subprocess.Popen(
        [sys.executable, *under, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.kill()
        running.communicate()


RUN = ("-m", "offloop", "run", "--no-report")
"""A program under ``offloop run``."""


class Terminal:
    """What a person has before them: a screen and keys."""

    def __init__(
        self, arguments: list[str], columns: int = 80, rows: int = 24, **variables: str
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.written = b""
        self._stream = pyte.ByteStream(self.screen)
        self._main, side = pty.openpty()
        self._size(columns, rows)
        clean = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
        environment = {**clean, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **variables}
        self.process = subprocess.Popen(
            arguments,
            stdin=side,
            stdout=side,
            stderr=side,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller; the kernel tells what runs in it."""
        self.screen.resize(rows, columns)
        self._size(columns, rows)

    def press(self, keys: str) -> None:
        """Press keys, one after another."""
        os.write(self._main, keys.encode())

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._main], [], [], seconds)
        if not ready:
            return True
        try:
            piece = os.read(self._main, 65536)
        except OSError:
            return False  # What ran in it has ended.
        self.written += piece
        self._stream.feed(piece)
        return bool(piece)

    def wait_for(self, *parts: str, is_so: Callable[[str], bool] | None = None) -> str:
        """The screen, once all these parts are on it."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            text = self.text
            if all(part in text for part in parts) and (is_so is None or is_so(text)):
                return text
            goes_on = self._read(0.1)
            assert goes_on or all(part in self.text for part in parts), (parts, self.text)
            assert time.monotonic() < until, f"{parts} never came:\n{self.text}"

    def wait_without(self, part: str) -> str:
        """The screen, once this is not on it any more."""
        return self.wait_for(is_so=lambda text: part not in text)

    def end(self) -> int:
        """The exit status, once it has ended by itself."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._read(0.1):
            assert time.monotonic() < until, self.text
        return self.process.wait(PATIENCE_SECONDS)

    def hang_up(self) -> int:
        """Take the terminal away from what runs in it; the exit status of that."""
        os.close(self._main)
        self._main = os.open(os.devnull, os.O_RDONLY)
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """End what runs in it, and take the terminal away."""
        self.process.kill()
        self.process.wait()
        os.close(self._main)


@contextmanager
def terminal(
    *arguments: str, columns: int = 80, rows: int = 24, **variables: str
) -> Iterator[Terminal]:
    """``offloop top`` with these arguments, in a terminal of this size."""
    made = Terminal([*TOP, *arguments], columns, rows, **variables)
    try:
        yield made
    finally:
        made.close()


def top(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``offloop top`` without a terminal, until its end."""
    return subprocess.run(
        [*TOP, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **variables},
    )
