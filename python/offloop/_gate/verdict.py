"""What a finding means for its test: whether it is known, and how it is written down."""

from __future__ import annotations

import linecache
from collections.abc import Container
from pathlib import Path
from typing import Any

from offloop._gate.findings import Finding, Kind
from offloop._gate.ratchet import Known

__all__ = ["Verdict"]


class Verdict:
    """Judges by a file of known stalls; paths are told from a folder on."""

    def __init__(self, root: Path, known: Container[Known], *, forgives: bool) -> None:
        self._root = root
        self._known = known
        self._forgives = forgives

    def is_known(self, finding: Finding) -> bool:
        """Whether a finding fails no test.

        A stall without a line can never be known: nothing would tell it from another one.
        """
        if finding.kind is not Kind.STALL:
            return False
        key = self._key(finding)
        if key is None or not key.is_writable:
            return False
        return self._forgives or key in self._known

    def _key(self, finding: Finding) -> Known | None:
        place = finding.place
        if place is None:
            return None
        line = linecache.getline(place.filename, place.line).strip()
        return Known(self._shown(place.filename), place.function or "", line)

    def _shown(self, filename: str) -> str:
        path = Path(filename)
        return (
            path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else filename
        )

    def fields(self, finding: Finding, *, is_late: bool) -> dict[str, Any]:
        """A finding as it is sent between processes, and written to a file."""
        key = self._key(finding)
        place, phase = finding.place, finding.phase
        return {
            "kind": str(finding.kind),
            "test": None if phase is None else phase.test,
            "phase": None if phase is None else phase.when,
            "summary": finding.summary,
            "words": finding.words,
            "file": None if key is None else key.file,
            "line": None if place is None else place.line,
            "function": None if key is None else key.function,
            "source": None if key is None else key.line,
            "seconds": finding.seconds,
            "known": self.is_known(finding),
            "late": is_late,
        }
