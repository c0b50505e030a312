"""What one benchmark says of itself to the harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.building import Programs
from bench.harness.goals import Against
from bench.harness.rows import Contender, Row
from bench.harness.turns import Turn


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Rows and contenders, how a turn is taken, and the words of the report."""

    #: The package in ``bench`` that holds it.
    name: str
    title: str
    #: What the report says of the conditions.
    conditions: str
    rows: Mapping[str, Row]
    contenders: Mapping[str, Contender]
    #: The option that chooses contenders.
    option: str
    #: What ``--minutes`` is for, in a benchmark with rows that last.
    lasting: str | None = None
    #: How long the quick form takes.
    quick_minutes: int
    output: Path
    #: What every number is compared with.
    standard: Against
    about_standard: str
    #: The contender that is 1 in the picture; without it the standard of each number.
    base: Against | None = None
    base_title: str
    #: Whether the contenders of a row take turns. If not, each has all its turns at once.
    alternates: bool
    build: Callable[[Sequence[Row], Programs], None]
    #: Why a row cannot be measured at all, if it cannot.
    absence: Callable[[Row, Programs], str | None] = lambda _row, _programs: None
    #: Asks, and takes in the answers.
    ask: Callable[[Turn, Programs], None]
