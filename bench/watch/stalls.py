"""Stalls, each of one cause: what blocks the loop for 300 ms, on a line that is known.

A function of ``STALLS`` prepares one: it starts the threads and processes that take part, finds out
how often to repeat, and returns what stalls. That marks the moments itself. Its line, or the lines
of its loop, carry the comment ``# The stall.``
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import inspect
import itertools
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from bench.watch.reports import Truth

SECONDS = 0.3

#: Stalls the loop, and returns when that began and ended.
Stall = Callable[[], tuple[float, float]]

_MARK = "# The stall."
#: How long a trial runs at least, from which the number of repetitions is found.
_TRIAL_SECONDS = 0.02

#: Has a write lease on a file, and gives it up some time after another process opens the file. The
#: kernel lets that process wait in open(2), as a slow disk would: see fcntl(2), F_SETLEASE.
_LEASE_HOLDER = f"""
import fcntl, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
signal.sigwait([signal.SIGIO])
os.unlink(sys.argv[1])
time.sleep({SECONDS})
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
"""


def lines_of(stall: Stall) -> frozenset[int]:
    """Return the numbers of the lines that carry the mark."""
    lines, first = inspect.getsourcelines(stall)
    return frozenset(number for number, line in enumerate(lines, first) if _MARK in line)


def truth_of(cause: str, stall: Stall, span: tuple[float, float]) -> Truth:
    """Write down what a stall was."""
    return Truth(cause, *span, inspect.getfile(stall), lines_of(stall))


def _sleep() -> Stall:
    def stall() -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(SECONDS)  # The stall.
        return began, time.monotonic()

    return stall


def _python() -> Stall:
    def stall() -> tuple[float, float]:
        began = time.monotonic()
        end = began + SECONDS
        while time.monotonic() < end:  # The stall.
            pass  # The stall.
        return began, time.monotonic()

    return stall


def _keeping_gil() -> Stall:
    """Prepare a C function that waits and keeps the GIL."""
    usleep = ctypes.PyDLL(None).usleep
    microseconds = int(SECONDS * 1e6)

    def stall() -> tuple[float, float]:
        began = time.monotonic()
        usleep(microseconds)  # The stall.
        return began, time.monotonic()

    return stall


def _native() -> Stall:
    """Prepare C code that computes with the GIL: a sum of ones, with no Python in between."""
    count = _repetitions(lambda count: sum(itertools.repeat(1, count)), 100_000)

    def stall() -> tuple[float, float]:
        began = time.monotonic()
        sum(itertools.repeat(1, count))  # The stall.
        return began, time.monotonic()

    return stall


def _native_without_gil() -> Stall:
    """Prepare C code that computes without the GIL: a password is hashed."""
    count = _repetitions(lambda count: hashlib.pbkdf2_hmac("sha256", b"-", b"-", count), 1000)

    def stall() -> tuple[float, float]:
        began = time.monotonic()
        hashlib.pbkdf2_hmac("sha256", b"-", b"-", count)  # The stall.
        return began, time.monotonic()

    return stall


def _socket() -> Stall:
    """Prepare a server of the loopback address that answers late."""
    listener = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    asked = _after_a_while(lambda: server.sendall(b"."))

    def stall() -> tuple[float, float]:
        asked.set()
        began = time.monotonic()
        connection.recv(1)  # The stall.
        return began, time.monotonic()

    return stall


def _file() -> Stall:
    """Prepare a regular file that takes a while to open: another process has a lease on it."""
    with tempfile.NamedTemporaryFile(prefix="offloop-bench-", delete=False) as file:
        path = file.name
    command = [sys.executable, "-c", _LEASE_HOLDER, path]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    if holder.stdout.readline() != b"held\n":
        raise RuntimeError(f"the file system has no leases: {path}")

    def stall() -> tuple[float, float]:
        began = time.monotonic()
        with open(path, encoding="utf-8") as file:  # The stall.
            ended = time.monotonic()
            file.read()
        return began, ended

    return stall


def _lock() -> Stall:
    """Prepare a lock that another thread has."""
    lock = threading.Lock()
    lock.acquire()
    asked = _after_a_while(lock.release)

    def stall() -> tuple[float, float]:
        asked.set()
        began = time.monotonic()
        lock.acquire()  # The stall.
        return began, time.monotonic()

    return stall


def _child() -> Stall:
    def stall() -> tuple[float, float]:
        began = time.monotonic()
        subprocess.run(["sleep", str(SECONDS)], check=True)  # The stall.
        return began, time.monotonic()

    return stall


def _other_thread() -> Stall:
    """Prepare another thread that keeps the GIL, in a C function that waits.

    The loop's thread goes on until it has to let go of the GIL, which is soon.
    """
    usleep = ctypes.PyDLL(None).usleep
    asked = threading.Event()
    done = threading.Event()

    def keep() -> None:
        asked.wait()
        usleep(int(SECONDS * 1e6))
        done.set()

    threading.Thread(target=keep, daemon=True).start()

    def stall() -> tuple[float, float]:
        began = time.monotonic()
        asked.set()
        while not done.is_set():  # The stall.
            pass  # The stall.
        return began, time.monotonic()

    return stall


def _collection() -> Stall:
    """Prepare so many objects that looking through them takes a while."""
    gc.disable()
    kept: list[list[list[int]]] = []
    shared: list[int] = []

    def collect(count: int) -> float:
        """Return how long a collection takes beside so many objects."""
        kept.extend([shared] * 10 for _ in range(count - len(kept)))
        began = time.monotonic()
        gc.collect()
        return time.monotonic() - began

    count = 20_000
    while (seconds := collect(count)) < _TRIAL_SECONDS:
        count *= 2
    while seconds < SECONDS:
        count = int(count * SECONDS / seconds) + 1
        seconds = collect(count)

    def stall() -> tuple[float, float]:
        assert kept
        began = time.monotonic()
        gc.collect()  # The stall.
        return began, time.monotonic()

    return stall


def _after_a_while(act: Callable[[], object]) -> threading.Event:
    """Let another thread act some time after the event that is returned."""
    asked = threading.Event()

    def wait() -> None:
        asked.wait()
        time.sleep(SECONDS)
        act()

    threading.Thread(target=wait, daemon=True).start()
    return asked


def _repetitions(repeat: Callable[[int], object], count: int) -> int:
    """Return how many repetitions take as long as a stall."""
    while True:
        began = time.monotonic()
        repeat(count)
        seconds = time.monotonic() - began
        if seconds >= _TRIAL_SECONDS:
            return int(count * SECONDS / seconds)
        count *= 2


#: One for each cause that a tool is to name.
CAUSES: dict[str, Callable[[], Stall]] = {
    "python": _python,
    "native": _native,
    "native-without-gil": _native_without_gil,
    "sleep": _sleep,
    "socket": _socket,
    "file": _file,
    "lock": _lock,
    "child": _child,
    "other-thread": _other_thread,
    "collection": _collection,
}

#: Those of which the moment, the line and the duration are measured.
TIMED: dict[str, Callable[[], Stall]] = {
    "sleep": _sleep,
    "native": _keeping_gil,
    "python": _python,
}
