"""What is asked of the gate: by options and ini values for all tests, by a mark for one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["KINDS", "Asked", "Limits", "of_config", "of_item"]

KINDS = ("stall", "task", "exception", "coroutine", "deadlock", "executor", "thread")
"""What can be found; `offloop._gate.findings.Kind` has the same."""

DEFAULT = "50ms"
SECONDS_MIN, SECONDS_MAX = 0.001, 3600.0
_UNITS = {"ms": 0.001, "s": 1.0}


@dataclass(frozen=True)
class Limits:
    """What one test is held to."""

    max_stall_seconds: float
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Asked:
    """What a run is asked for."""

    max_stall_seconds: float | None
    allow: frozenset[str]
    ratchet: Path | None
    writes_ratchet: bool
    json: Path | None
    needs_limit: str | None
    """An option that is nothing without a limit."""
    is_off: bool = False
    """The command line turns the gate off, for all tests."""


def of_config(config: pytest.Config) -> Asked:
    """What options and ini values ask for."""
    option = config.getoption("offloop_max_stall")
    if option == "off":
        return Asked(None, frozenset(), None, False, None, None, is_off=True)
    written = option or config.getini("offloop_max_stall")
    allow = config.getoption("offloop_allow") or config.getini("offloop_allow")
    ratchet = config.getoption("offloop_ratchet")
    file = config.invocation_params.dir / ratchet if ratchet else None
    if file is None and config.getini("offloop_ratchet"):
        file = config.rootpath / config.getini("offloop_ratchet")
    json = config.getoption("offloop_json")
    writes = bool(config.getoption("offloop_ratchet_write"))
    if writes and file is None:
        raise pytest.UsageError("--offloop-ratchet-write needs --offloop-ratchet")
    needing = {
        "--offloop-ratchet": ratchet,
        "--offloop-ratchet-write": writes,
        "--offloop-json": json,
    }
    return Asked(
        seconds_of(written, "--offloop-max-stall") if written else None,
        kinds_of(allow.replace(",", " ").split(), "--offloop-allow"),
        file,
        writes,
        config.invocation_params.dir / json if json else None,
        next((name for name, value in needing.items() if value), None),
    )


def of_item(item: pytest.Item, asked: Asked) -> Limits | None:
    """What a test is held to; ``None`` if it is left alone.

    Marks add up, those of a class and a module as well: the nearest one that gives a time wins, and
    what any of them allows is allowed.
    """
    if asked.is_off:
        return None
    where = f"the mark offloop of {item.nodeid}"
    seconds, kinds = asked.max_stall_seconds, asked.allow
    marks = list(item.iter_markers("offloop"))
    if marks and seconds is None:
        seconds = seconds_of(DEFAULT, where)
    # The nearest comes first.
    for mark in reversed(marks):
        unknown = [*map(repr, mark.args), *sorted(mark.kwargs.keys() - {"max_stall", "allow"})]
        if unknown:
            known = "max_stall=... and allow=(...)"
            raise pytest.UsageError(f"{where}: takes {known}, not {', '.join(unknown)}")
        if "max_stall" in mark.kwargs:
            seconds = seconds_of(mark.kwargs["max_stall"], where)
        kinds |= _allowed(mark.kwargs.get("allow", ()), where)
    return None if seconds is None else Limits(seconds, kinds)


def _allowed(allow: Any, where: str) -> frozenset[str]:
    names = [allow] if isinstance(allow, str) else allow
    if not isinstance(names, (list, tuple, set, frozenset)):
        raise pytest.UsageError(f"{where}: allow={allow!r} names no kinds")
    return kinds_of(list(names), where)


def seconds_of(written: Any, where: str) -> float | None:
    """A time in seconds, as it is written with its unit; ``None`` for ``off``."""
    if written == "off":
        return None
    found = (
        re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s)", written) if type(written) is str else None
    )
    if found is None:
        raise pytest.UsageError(f"{where}: {written!r} is no time; write 50ms, 0.2s or off")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise pytest.UsageError(f"{where}: {written!r} is not from 1ms to 3600s")
    return seconds


def kinds_of(names: list[Any], where: str) -> frozenset[str]:
    """Kinds of findings by their names."""
    for name in names:
        if name not in KINDS:
            known = ", ".join(KINDS)
            raise pytest.UsageError(f"{where}: {name!r} is not among {known}")
    return frozenset(names)
