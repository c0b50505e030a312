"""What a tool says of a stall, what was true, and how far the two agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: From which duration on a tool is to tell.
THRESHOLD_S = 0.05

Numbers = dict[str, float | str]


@dataclass(frozen=True)
class Truth:
    """One stall, as the program that stalled has written it down."""

    cause: str
    #: Seconds of the monotonic clock.
    began: float
    ended: float
    filename: str
    #: The line; a loop has several.
    lines: frozenset[int]

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


@dataclass(frozen=True)
class Report:
    """What a tool has said at one moment."""

    #: Which stall it speaks of: later reports of one stall carry the same.
    stall: object
    #: Seconds of the monotonic clock.
    at: float
    #: The lines that it names, as file and line.
    places: tuple[tuple[str, int], ...] = ()
    #: How long the stall has lasted.
    seconds: float | None = None
    #: The cause in the tool's words.
    said: str = ""
    #: The causes of our list that these words mean.
    causes: frozenset[str] = frozenset()
    #: Whether the call was refused before it could stall the loop.
    refuses: bool = False
    #: Whether the program's code is blamed.
    blames: bool = True


def stall_numbers(truth: Truth, reports: Sequence[Report]) -> Numbers:
    """Return what the reports are worth: found, when, the right line, the right duration."""
    told = told_of(truth, reports)
    if not told:
        return {"found": 0.0, "line": 0.0}
    placed = next((report for report in told if report.places), None)
    numbers: Numbers = {
        "found": 100.0,
        "late_ms": (told[0].at - truth.began - THRESHOLD_S) * 1000,
        "line": 100.0 * (placed is not None and names_line(truth, placed)),
    }
    if told[0].refuses:
        # Nothing has lasted, so that there is nothing to time.
        return numbers | {"late_ms": "refuses it", "error_ms": "refuses it"}
    seconds = _seconds_told(told)
    if seconds is None:
        return numbers | {"error_ms": "not told"}
    return numbers | {"error_ms": abs(seconds - truth.seconds) * 1000}


def cause_numbers(truth: Truth, reports: Sequence[Report]) -> Numbers:
    """Return which cause the first report with a cause names, and whether it is the right one."""
    told = told_of(truth, reports)
    spoken = next((report for report in told if report.said), None)
    if spoken is None:
        return {"said": "names none" if told else "misses it", "right": 0.0}
    return {"said": spoken.said, "right": float(truth.cause in spoken.causes)}


def told_of(truth: Truth, reports: Sequence[Report]) -> list[Report]:
    """Return the reports since the stall began, the first one first."""
    return sorted((one for one in reports if one.at >= truth.began), key=lambda one: one.at)


def names_line(truth: Truth, report: Report) -> bool:
    """Return whether of the stalling file nothing but the stalling line is named.

    A tool may shorten the paths of files.
    """
    named = {line for filename, line in report.places if truth.filename.endswith(filename)}
    return bool(named) and named <= truth.lines


def blamed(reports: Sequence[Report], since: float) -> int:
    """Return for how many stalls, or what was taken for one, code was blamed since a moment."""
    return len({report.stall for report in reports if report.at >= since and report.blames})


def _seconds_told(told: Sequence[Report]) -> float | None:
    """Return the last duration of what was told; of several parts the sum."""
    parts = {report.stall: report.seconds for report in told if report.seconds is not None}
    return sum(parts.values()) if parts else None
