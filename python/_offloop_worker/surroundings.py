"""What a process has of its surroundings beside its memory: its identity, its limits, its path.

The program looks at itself, and its zygote takes on what was seen, before it imports anything. What
can change at any time, ``sys.path`` and ``os.environ``, follows its calls to workers that run.
"""

from __future__ import annotations

import os
import sys
from _pickle import dumps

# Without the enumerations of the module above it, which cost workers time and memory.
from _signal import (  # type: ignore[import-not-found]
    SIG_IGN,
    SIGKILL,
    SIGSTOP,
    getsignal,
    signal,
    valid_signals,
)

# Seen by type checkers alone: these modules are not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "begin_from",
    "follow",
    "ignore_signals",
    "look",
    "look_again",
    "look_around",
    "take_on",
]

_LIMITS = 16
"""Resource limits of Linux, ``RLIMIT_CPU`` to ``RLIMIT_RTTIME``: Python names not all of them."""

_PRIVILEGES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")

_SIGNALS = sorted(int(number) for number in valid_signals() - {SIGKILL, SIGSTOP})

_last: dict[str, Any] = {}
"""What of the program's path and environment this process has taken on."""


_NOTHING_SEEN: tuple[Any, dict[str, Any]] = (None, {})
_before: dict[str, tuple[Any, dict[str, Any]]] = {}
"""The last look around: decoding an environment takes longer than comparing it."""


def look() -> dict[str, Any]:
    """What a worker is to have of this process and thread; equal if nothing changed."""
    import resource

    status = _status()
    return {
        "users": os.getresuid(),
        "groups": os.getresgid(),
        "supplementary": os.getgroups(),
        "umask": int(status["Umask"], 8) if status["Umask"] else None,
        "limits": [resource.getrlimit(number) for number in range(_LIMITS)],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "policy": (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
        "ignored": [number for number in _SIGNALS if getsignal(number) is SIG_IGN],
        "privileges": [status[name] for name in _PRIVILEGES],
    }


def _status() -> dict[str, bytes]:
    """What only the kernel's text about this thread says; nothing where ``/proc`` is not there."""
    try:
        descriptor = os.open("/proc/thread-self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 8192)
        finally:
            os.close(descriptor)
    except OSError:
        text = b""
    fields = {}
    for name in ("Umask", *_PRIVILEGES):
        _, _, rest = text.partition(f"\n{name}:\t".encode())
        fields[name] = rest.partition(b"\n")[0]
    return fields


def take_on(facts: dict[str, Any]) -> None:
    """Become in all this what the program was when it looked.

    Most of it came with the process. What follows is what the thread that started it had
    otherwise, or what the program has changed since. User and groups come last: a process that has
    given them up may change nothing any more. What the system refuses stays as it is, for then this
    process has less than it should, not more.
    """
    import resource

    for number, limit in enumerate(facts["limits"]):
        if resource.getrlimit(number) != limit:
            _try(resource.setrlimit, number, limit)
    if os.getpriority(os.PRIO_PROCESS, 0) != facts["nice"]:
        _try(os.setpriority, os.PRIO_PROCESS, 0, facts["nice"])
    policy, priority = facts["policy"]
    if (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) != (policy, priority):
        _try(os.sched_setscheduler, 0, policy, os.sched_param(priority))
    if sorted(os.sched_getaffinity(0)) != facts["cores"]:
        _try(os.sched_setaffinity, 0, facts["cores"])
    if facts["umask"] is not None:
        os.umask(facts["umask"])
    if sorted(os.getgroups()) != sorted(facts["supplementary"]):
        _try(os.setgroups, facts["supplementary"])
    # What was saved is the effective one after an exec, so only the other two can differ.
    if os.getresgid()[:2] != facts["groups"][:2]:
        _try(os.setresgid, facts["groups"][0], *[facts["groups"][1]] * 2)
    if os.getresuid()[:2] != facts["users"][:2]:
        _try(os.setresuid, facts["users"][0], *[facts["users"][1]] * 2)


def _try(change: Any, *arguments: Any) -> None:
    # Without contextlib, which a worker need not have.
    try:  # noqa: SIM105
        change(*arguments)
    except (OSError, ValueError):
        pass


def ignore_signals(facts: dict[str, Any]) -> None:
    """Ignore in a worker what its program ignores; handlers are not inherited, as at an exec."""
    for number in facts["ignored"]:
        if getsignal(number) is not SIG_IGN:
            _try(signal, number, SIG_IGN)


def look_around() -> dict[str, Any]:
    """Where this process is and finds modules, and its environment."""
    seen = (list(sys.path), _directory(), dict(getattr(os.environ, "_data", os.environ)))
    # Taken as a pair, for there may be other threads.
    before, around = _before.get("pair", _NOTHING_SEEN)
    if before != seen:
        around = {
            "path": [_absolute(entry) for entry in sys.path],
            "directory": seen[1],
            "environment": dict(os.environ),
        }
        _before["pair"] = (seen, around)
    return around


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.sep


def _absolute(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    return os.path.normpath(os.path.join(_directory(), entry))


def look_again() -> bytes:
    """What ``follow`` is to be given in each worker, pickled."""
    return dumps(look_around(), 5)


def begin_from(around: dict[str, Any]) -> None:
    """Take on the program's path and folder; its environment came with the process."""
    sys.path[:] = around["path"]
    _try(os.chdir, around["directory"])
    _last.update(around)


def follow(now: dict[str, Any]) -> None:
    """Do what the program has done to its path and environment since this process saw them last.

    What an initializer or a call has changed by itself in this process stays.
    """
    before = _last["path"]
    if now["path"] != before:
        own = [entry for entry in sys.path if entry not in before]
        first = sys.path[: next((i for i, entry in enumerate(sys.path) if entry in before), 0)]
        rest = own[len(first) :]
        sys.path[:] = [*first, *now["path"], *rest]
        _forget_misses()
    _follow_environment(_last["environment"], now["environment"])
    _last.update(now)


def _forget_misses() -> None:
    """A folder that was empty when it was looked at may hold modules now."""
    import importlib

    importlib.invalidate_caches()


def _follow_environment(before: dict[str, str], now: dict[str, str]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            os.environ[name] = value
    for name in before.keys() - now.keys():
        os.environ.pop(name, None)
