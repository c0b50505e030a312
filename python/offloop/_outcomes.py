"""Outcomes of calls as exceptions; called by the extension when a call has no value."""

from __future__ import annotations

import re
import signal as _signal
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any

from _offloop_worker import failure
from offloop.exceptions import DeadlineExceeded, DecodeError, TaskDropped, WorkerCrashed

_STDERR_LINES_SHOWN = 12

# What the unpicklers of all versions say of a name that is not in its module.
_MISSING_NAME = re.compile(
    r"'(?P<name>[^']+)' on (?:module )?<module '(?P<module>[^']+)'"
    # From Python 3.14 on, unless it is a dotted name.
    r"|^module '(?P<module_of_attribute>[^']+)' has no attribute '(?P<attribute>[^']+)'$"
)


def raised(table: tuple[Any, ...]) -> BaseException:
    """The exception that the call raised, with its remote traceback as its cause."""
    return failure.decode(table, _RemoteTraceback, _stand_in)  # type: ignore[arg-type]


def _stand_in(name: str, reason: BaseException | str) -> BaseException:
    if isinstance(reason, BaseException):
        reason = f"{type(reason).__name__}: {reason}{_advice(reason, 'here')}"
    return DecodeError(f"an exception of class {name} could not be decoded: {reason}")


def undecodable_call(table: tuple[Any, ...]) -> BaseException:
    """The worker could not decode the call."""
    cause = raised(table)
    error = DecodeError(
        f"the call could not be decoded in the worker: {type(cause).__name__}: {cause}"
        f"{_advice(cause, 'in the worker')}"
    )
    error.__cause__ = cause
    return error


def undecodable_result(cause: BaseException) -> BaseException:
    """The result could not be decoded here."""
    error = DecodeError(
        f"the result could not be decoded: {type(cause).__name__}: {cause}{_advice(cause, 'here')}"
    )
    error.__cause__ = cause
    return error


def _advice(cause: BaseException, where: str) -> str:
    """What to do when a module, or a name in one, is not found while something is decoded."""
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        if where == "here":
            return (
                f"\nThe worker can import `{cause.name}` and this program cannot: put its folder "
                "on sys.path here as well, or return plain data"
            )
        return (
            f"\n`{cause.name}` cannot be imported in the worker: install it where the program "
            "runs, or put its folder on sys.path before the pool is made, since workers search "
            "where the program did then"
        )
    missing = _MISSING_NAME.search(str(cause)) if isinstance(cause, AttributeError) else None
    if missing is None:
        return ""
    name = missing["name"] or missing["attribute"]
    module = missing["module"] or missing["module_of_attribute"]
    return (
        f"\nThe module `{module}` has no `{name}` when it is imported {where}: define it at the "
        "top level of the module, not while the program runs or under "
        '`if __name__ == "__main__"`, and start the program anew if the file has changed'
    )


def expired(deadline: bool) -> BaseException:
    """A time limit passed."""
    which = "timeout, counted from its submission," if deadline else "run_timeout"
    return DeadlineExceeded(f"the call did not end within its {which} and was stopped")


def dropped() -> BaseException:
    """A newer call took its place."""
    text = "the queue was full and this was its oldest call: it made room and never ran"
    return TaskDropped(text)


def broken(reason: str) -> BaseException:
    """No worker of the pool can be started."""
    return BrokenProcessPool(f"no worker of this pool can be started: {reason}")


def crashed(
    *,
    may_have_started: bool,
    attempts: int,
    pid: int,
    exit_code: int | None,
    signal: int | None,
    peak_memory_bytes: int | None,
    stderr_tail: str,
    reason: str | None,
) -> BaseException:
    """The worker ended under the call."""
    parts = [f"worker process {pid} {_end(exit_code, signal)} while it ran this call"]
    if reason is not None:
        parts.append(f" ({reason})")
    if attempts > 1:
        parts.append(f", at attempt {attempts}")
    if peak_memory_bytes is not None:
        parts.append(f"; it held at most {peak_memory_bytes / 2**20:.0f} MiB")
    lines = stderr_tail.splitlines()[-_STDERR_LINES_SHOWN:]
    if lines:
        parts.append("\nthe end of its standard error:\n  " + "\n  ".join(lines))
    return WorkerCrashed(
        "".join(parts),
        signal=signal,
        exit_code=exit_code,
        pid=pid,
        peak_memory_bytes=peak_memory_bytes,
        stderr_tail=stderr_tail,
        may_have_started=may_have_started,
    )


def _end(code: int | None, signal: int | None) -> str:
    if signal is not None:
        try:
            name = _signal.Signals(signal).name
        except ValueError:
            name = f"signal {signal}"
        return f"was ended by {name}"
    if code is not None:
        return f"exited with code {code}"
    return "ended with an unknown status"
