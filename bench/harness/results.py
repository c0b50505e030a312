"""What was measured: samples by row, contender and metric."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.harness.rows import Contender, Metric, Role, Row, Statistic


@dataclass
class Cell:
    """All samples of one metric of one contender, or a word that stands in their place."""

    samples: list[float] = field(default_factory=list)
    note: str | None = None

    def value(self, metric: Metric) -> float | None:
        """Return what stands for the samples; None where a note stands instead."""
        if self.note is not None or not self.samples:
            return None
        match metric.statistic:
            case Statistic.MEDIAN:
                return statistics.median(self.samples)
            case Statistic.MEAN:
                return statistics.mean(self.samples)
            case Statistic.WORST:
                return (min if metric.higher_is_better else max)(self.samples)


Cells = dict[str, Cell]


def take(cells: Cells, entry: Mapping[str, float | str]) -> None:
    """Take in what a measuring process has said: a sample is a number, a note is a word."""
    for key, value in entry.items():
        cell = cells.setdefault(key, Cell())
        if isinstance(value, str):
            cell.note = value
        else:
            cell.samples.append(float(value))


@dataclass
class CaseResult:
    """What one contender showed in one row."""

    status: str = "ok"
    error: str = ""
    seconds: float = 0.0
    cells: Cells = field(default_factory=dict)

    def add(self, cells: Cells) -> None:
        """Add what one turn has shown."""
        for key, cell in cells.items():
            mine = self.cells.setdefault(key, Cell())
            mine.samples += cell.samples
            mine.note = mine.note if cell.note is None else cell.note

    def fail(self, word: str, error: str, missing: Iterable[str]) -> None:
        """Let a word stand for the metrics that a turn did not reach; samples stay beside it."""
        self.status, self.error = word, error
        for key in missing:
            self.cells.setdefault(key, Cell()).note = word


class RowResults:
    """The results of every contender in one row."""

    def __init__(self, row: Row, contenders: Mapping[str, Contender]) -> None:
        self.row = row
        self.cases: dict[str, CaseResult] = {}
        self._contenders = contenders

    def value(self, name: str, metric: Metric) -> float | None:
        """Return the number of one contender, or None where there is none."""
        cell = self._cell(name, metric)
        return cell.value(metric) if cell else None

    def word(self, name: str, metric: Metric) -> str | None:
        """Return the word that stands in place of a number, if one does."""
        cell = self._cell(name, metric)
        return cell.note if cell else None

    def best(self, metric: Metric, among: Iterable[str]) -> tuple[str, float] | None:
        """Return which of these contenders did best, and its number."""
        measured = [(name, self.value(name, metric)) for name in among]
        numbers = [(name, value) for name, value in measured if value is not None]
        if not numbers:
            return None
        choose = max if metric.higher_is_better else min
        return choose(numbers, key=lambda pair: pair[1])

    def peers(self) -> list[str]:
        """Return the measured peers: neither ours nor the floor."""
        return [name for name in self.cases if self._contenders[name].role is Role.PEER]

    def others(self) -> list[str]:
        """Return the contenders measured beside our entrances, the floor included."""
        return [name for name in self.cases if self._contenders[name].role is not Role.OURS]

    def _cell(self, name: str, metric: Metric) -> Cell | None:
        case = self.cases.get(name)
        return case.cells.get(metric.key) if case else None


@dataclass
class Run:
    """Everything that one run of a benchmark has measured, and under which circumstances."""

    machine: str
    command: str
    date: str
    #: The 1-minute load average when the run began: other work on the machine spoils it.
    load: float
    quick: bool
    #: How many cases there are in all; a run that was interrupted has fewer.
    planned: int
    packages: dict[str, str]
    #: Contenders that are not measured, and why.
    absent: dict[str, str]
    seconds: float = 0.0
    rows: dict[str, RowResults] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """How many cases have been measured so far."""
        return sum(len(results.cases) for results in self.rows.values())
