"""Functions that the tests run inside workers, and the gates by which they tell where they are.

A gate is a pair of named pipes: the call reports its process id when it has started, and waits for
a byte before it goes on. So a test waits for the event itself and never for a length of time.
"""

import contextlib
import ctypes
import importlib
import itertools
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gate:
    """Paths of the two pipes of a gate; the parent's side is `gates.OpenGate`."""

    started: str
    released: str

    def report(self, text: str = "") -> None:
        """Tell the test that the call has got here, with its process id and `text`."""
        with open(self.started, "wb", buffering=0) as pipe:
            pipe.write(f"{os.getpid()} {text}\n".encode())

    def wait(self) -> None:
        """Wait until the test lets one call through."""
        with open(self.released, "rb", buffering=0) as pipe:
            pipe.read(1)


def import_module(directory: str, name: str) -> str:
    """Import a module from a directory, and stay in the call for ever."""
    sys.path.insert(0, directory)
    importlib.import_module(name)
    while True:
        time.sleep(1)


def whole_module(name: str) -> tuple[int, bool]:
    """Return the worker's process id, and whether the last line of a module has run there."""
    return os.getpid(), hasattr(sys.modules.get(name), "LAST")


def echo(value):
    """Return the argument."""
    return value


def identify() -> int:
    """Return the worker's process id."""
    return os.getpid()


def capture(*args, **kwargs):
    """Return what the call was made with."""
    return args, kwargs


def hold(gate: Gate, value=None):
    """Report, wait to be released, return `value`."""
    gate.report()
    gate.wait()
    return value


def hold_and_raise(gate: Gate, error: BaseException):
    """Report, wait to be released, raise `error`."""
    gate.report()
    gate.wait()
    raise error


def loop_for_ever(gate: Gate) -> None:
    """Report, then burn a core in pure Python."""
    gate.report()
    while True:
        pass


def sleep_for_ever(gate: Gate) -> None:
    """Report, then wait in a system call."""
    gate.report()
    while True:
        time.sleep(3600)


def wait_on_a_lock_for_ever(gate: Gate) -> None:
    """Report, then wait for a lock that is never released."""
    lock = threading.Lock()
    lock.acquire()
    gate.report()
    lock.acquire()


def hold_the_gil(gate: Gate) -> None:
    """Report, then stay in a C loop that keeps the GIL and never looks at signals.

    Signals are blocked first, so that none arrives while the report is still Python code.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    gate.report()
    sum(itertools.repeat(1, 1 << 60))


def refuse_to_stop(gate: Gate) -> None:
    """Report, then swallow every exception, the interruption included."""
    with contextlib.suppress(BaseException):
        gate.report()
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def clean_up_when_interrupted(gate: Gate) -> None:
    """Report, loop, and report again with the name of what ended the loop."""
    try:
        gate.report()
        while True:
            pass
    except BaseException as error:
        gate.report(type(error).__name__)
        raise
    finally:
        gate.report("finally")


def fail(error: BaseException) -> None:
    """Raise the argument."""
    raise error


def exit_at_once(code: int = 7) -> None:
    """Leave the process without a word."""
    os._exit(code)


def kill_oneself(number: int = signal.SIGKILL) -> None:
    """Die of a signal."""
    os.kill(os.getpid(), number)
    signal.pause()


def segfault() -> None:
    """Read address zero."""
    ctypes.string_at(0)


def write_to_stderr_and_die(text: str) -> None:
    """Write to standard error in Python and below it, then abort."""
    print(text, file=sys.stderr, flush=True)
    os.write(2, f"raw {text}\n".encode())
    os.abort()


def crash_once(marker: str, value):
    """Kill the worker on the first attempt; on the next, return `value`."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def count_start(log: str) -> int:
    """Append one line to `log`, so that the test can count how often the call has started."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"started\n")
    os.close(descriptor)
    return os.getpid()


def starts_in(log: Path) -> int:
    """How often `count_start` has run with this log."""
    return log.read_text().count("started") if log.exists() else 0


def fill_with_sevens(array):
    """Write into the argument, and return its sum."""
    array[...] = 7
    return float(array.sum())


STATE = "not initialised"


def initialise(state) -> None:
    """Keep `state` for `read_state`."""
    global STATE
    STATE = state


def read_state():
    """Return what the initializer left."""
    return STATE


def fail_to_initialise() -> None:
    """Raise, as an initializer."""
    raise ValueError("this initializer always fails")


class OddError(Exception):
    """An error whose constructor cannot be called with its args."""

    def __init__(self, *, code: int, hint: str) -> None:
        super().__init__(f"{hint} ({code})")
        self.code = code
        self.hint = hint


class TwoArgumentError(Exception):
    """An error that forgets one of its arguments on the way to Exception."""

    def __init__(self, first, second) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


def raise_odd_error() -> None:
    """Raise an error that pickle alone cannot rebuild."""
    raise OddError(code=42, hint="odd")


def raise_two_argument_error() -> None:
    """Raise an error whose args do not fit its constructor."""
    raise TwoArgumentError("one", "two")


def raise_with_note() -> None:
    """Raise an error with a note."""
    error = ValueError("noted")
    error.add_note("this is the note")
    raise error


def raise_from_cause() -> None:
    """Raise an error from another."""
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise RuntimeError("the effect") from cause


def raise_in_context() -> None:
    """Raise an error while another is being handled."""
    try:
        raise KeyError("the context")
    except KeyError:
        raise RuntimeError("the effect")  # noqa: B904


def raise_group() -> None:
    """Raise an exception group with an odd error inside."""
    raise ExceptionGroup("two failed", [ValueError("first"), OddError(code=1, hint="second")])


class FailsToPickle:
    """An object that cannot be encoded."""

    def __reduce__(self):
        raise TypeError("this object does not travel")


class FailsToUnpickle:
    """An object that encodes well and cannot be decoded."""

    def __reduce__(self):
        return _refuse_to_be_rebuilt, ()


def _refuse_to_be_rebuilt():
    raise LookupError("this object cannot be rebuilt")


class ErrorThatFailsToPickle(Exception):
    """An error that cannot be encoded."""

    def __reduce__(self):
        raise TypeError("this error does not travel")


class ErrorThatFailsToUnpickle(Exception):
    """An error that encodes well and cannot be decoded."""

    def __reduce__(self):
        return _refuse_to_be_rebuilt, ()


def make(cls):
    """Return an instance of `cls`."""
    return cls()


def fail_with(cls) -> None:
    """Raise an instance of `cls`."""
    raise cls()


def name_of_process() -> tuple[str, int]:
    """Return how multiprocessing, and with it logging, calls this process."""
    import multiprocessing.process

    return multiprocessing.process.current_process().name, os.getpid()
