"""What a process has of its surroundings beside its memory: who it is, its limits, its path.

The program looks at itself, and its zygote takes on what was seen, before it imports anything. What
can change at any time, ``sys.path`` and ``os.environ``, follows its calls to workers that run.
"""

from __future__ import annotations

import os
import sys
from _pickle import dumps
from _signal import SIG_IGN, SIGKILL, SIGSTOP, getsignal, signal, valid_signals

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

_last: dict[str, Any] = {}
"""What of the program's path and environment this process has taken on."""


def look() -> dict[str, Any]:
    """What a worker is to have of this process and thread; equal if nothing changed."""
    import resource

    status = _status()
    return {
        "users": os.getresuid(),
        "groups": os.getresgid(),
        "supplementary": os.getgroups(),
        "umask": int(status["Umask"], 8) if "Umask" in status else None,
        "limits": [resource.getrlimit(number) for number in range(_LIMITS)],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "policy": (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
        "ignored": [number for number in _changeable_signals() if getsignal(number) is SIG_IGN],
        "capabilities": [status.get(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")],
        "no_new_privileges": status.get("NoNewPrivs"),
    }


def _status() -> dict[str, str]:
    """The kernel's words about this thread; nothing where ``/proc`` is not there."""
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
            fields = (line.partition(":") for line in file)
            return {name: value.strip() for name, _, value in fields}
    except OSError:
        return {}


def _changeable_signals() -> list[int]:
    return sorted(int(number) for number in valid_signals() - {SIGKILL, SIGSTOP})


def take_on(facts: dict[str, Any]) -> None:
    """Become in all this what the program was when it looked.

    Most of it came with the process. What follows is what the thread that started it had
    otherwise, or what the program has changed since. User and groups come last: whoever gives them
    up may change nothing any more. What the system refuses stays as it is, for then this process
    has less than it should, not more.
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
    return {
        "path": [_absolute(entry) for entry in sys.path],
        "directory": _directory(),
        "environment": dict(os.environ),
    }


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
