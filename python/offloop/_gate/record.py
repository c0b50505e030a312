"""What a run has found: for the last lines of its output, a JSON file and the file of known stalls.

In a run that is divided, each process sends its record to the one that began it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from offloop._gate.findings import Kind
from offloop._gate.ratchet import Known, shown

__all__ = ["Record"]

VERSION = 1


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

    def stalls(self) -> dict[Known, frozenset[str]]:
        """The stalls that can be known, each with the tests that have seen it."""
        tests: dict[Known, set[str]] = {}
        for each in self._findings:
            if each["kind"] == Kind.STALL and each["file"] is not None:
                known = Known(each["file"], each["function"], each["source"])
                if known.is_writable:
                    tests.setdefault(known, set()).add(each["test"] or "")
        return {known: frozenset(seen) for known, seen in tests.items()}

    def write_json(
        self, path: Path, max_stall: float | None, unseen: list[Known], partial: str | None
    ) -> None:
        """Write all of it.

        Raises:
            OSError: the file cannot be written.
        """
        fields = {
            "version": VERSION,
            "max_stall_seconds": max_stall,
            **self.to_fields(),
            "known_but_not_seen": [each._asdict() for each in unseen],
            "partial": partial,
        }
        path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")

    def lines(self, *, writes_ratchet: bool) -> list[str]:
        """The last lines of a run; none if all is well."""
        lines = []
        counts = Counter(each["kind"] for each in self._findings if not each["known"])
        if counts:
            parts = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            lines.append(f"found in {self.tests} tests: {parts}")
        lines += shown(
            "came too late for its test, and fails the run",
            [f"{each['test'] or 'no test'}: {each['summary']}" for each in self.late],
        )
        lines += shown(
            "not measured",
            [f"{each['test']} ({each['phase']}): {each['reason']}" for each in self._unmeasured],
        )
        known = sum(each["known"] for each in self._findings)
        if known:
            lines.append(f"{known} stalls are known and fail no test")
        nameless = counts[Kind.STALL]
        if writes_ratchet and nameless:
            lines.append(f"{nameless} stalls have no line that could be known, and fail their test")
        return lines
