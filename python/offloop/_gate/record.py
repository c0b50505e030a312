"""What a run has found: for the last lines of its output, a JSON file and the file of known stalls.

In a run that is divided, each process sends its record to the one that began it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from offloop._gate.findings import Kind
from offloop._gate.ratchet import Known, write_ratchet

__all__ = ["Record"]

VERSION = 1

SHOWN_MAX = 20
"""Lines of each kind; the JSON file has all."""


class Record:
    """What was found, and what was not measured."""

    def __init__(self) -> None:
        self.tests = 0
        self._findings: list[dict[str, Any]] = []
        self._unmeasured: list[dict[str, str]] = []

    @property
    def late(self) -> list[dict[str, Any]]:
        """What came too late to fail its test."""
        return [each for each in self._findings if each["late"] and not each["known"]]

    def add(self, finding: dict[str, Any]) -> None:
        """Something was found."""
        self._findings.append(finding)

    def unmeasured(self, test: str, phase: str, reason: str) -> None:
        """Something was not measured."""
        self._unmeasured.append({"test": test, "phase": phase, "reason": reason})

    def to_fields(self) -> dict[str, Any]:
        """All of it, as it is sent between processes."""
        return {
            "tests": self.tests,
            "findings": self._findings,
            "unmeasured": self._unmeasured,
        }

    def take(self, fields: dict[str, Any]) -> None:
        """Add the record of another process."""
        self.tests += fields["tests"]
        self._findings += fields["findings"]
        self._unmeasured += fields["unmeasured"]

    def _stalls(self) -> frozenset[Known]:
        return frozenset(
            Known(each["file"], each["function"], each["source"])
            for each in self._findings
            if each["kind"] == Kind.STALL and each["file"] is not None
        )

    def _gone(self, known: frozenset[Known]) -> list[Known]:
        return sorted(known - self._stalls())

    def write_json(self, path: Path, max_stall: float | None, known: frozenset[Known]) -> None:
        """Write all of it."""
        gone = [
            {"file": it.file, "function": it.function, "line": it.line} for it in self._gone(known)
        ]
        fields = {"version": VERSION, "max_stall_seconds": max_stall, **self.to_fields()}
        text = json.dumps({**fields, "known_but_not_seen": gone}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")

    def write_ratchet(self, path: Path, kept: frozenset[Known]) -> None:
        """Write the stalls of this run, and those that are to be kept."""
        write_ratchet(path, self._stalls() | kept)

    def lines(self, known: frozenset[Known], *, is_partial: bool) -> list[str]:
        """The last lines of a run; none if all is well."""
        lines = []
        counts = Counter(each["kind"] for each in self._findings if not each["known"])
        if counts:
            parts = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            lines.append(f"found in {self.tests} tests: {parts}")
        lines += _shown(
            "came too late for its test, and fails the run",
            [f"{each['test'] or 'no test'}: {each['summary']}" for each in self.late],
        )
        lines += _shown(
            "not measured",
            [f"{each['test']} ({each['phase']}): {each['reason']}" for each in self._unmeasured],
        )
        count = sum(each["known"] for each in self._findings)
        if count:
            lines.append(f"{count} stalls are known and fail no test")
        gone = self._gone(known)
        if gone and not is_partial:
            heading = "known, but not seen in this run: --offloop-ratchet-write takes them out"
            lines += _shown(heading, [str(each) for each in gone])
        return lines


def _shown(heading: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    shown = [f"  {entry}" for entry in entries[:SHOWN_MAX]]
    more = len(entries) - len(shown)
    return [f"{heading}:", *shown, *([f"  and {more} more"] if more else [])]
