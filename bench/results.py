"""What was measured: samples by scenario, peer and metric, and what the scenarios are made of.

A measuring process writes one JSON line per sample, so that a case that hangs or dies later keeps
what it had shown until then.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.peers.base import Peer
    from bench.reach import Goal

PPE_NAMES = ("ppe-forkserver", "ppe-spawn", "ppe-fork")
#: For scenarios of warm pools that do not care how a worker came to be.
LIKE_FORKSERVER = {
    "ppe-spawn": "its workers differ from those of ppe-forkserver in their start only"
}
OFFLOOP_NAMES = ("offloop", "offloop-executor", "offloop-adopted", "offloop-pool")


@dataclass(frozen=True)
class Metric:
    """One measured quantity of a scenario."""

    key: str
    title: str
    unit: str
    higher_is_better: bool = False


@dataclass
class Cell:
    """All samples of one metric of one peer, or a word that stands in their place."""

    samples: list[float] = field(default_factory=list)
    note: str | None = None

    @property
    def median(self) -> float | None:
        """The median of the samples; None where a note stands instead."""
        if self.note is not None or not self.samples:
            return None
        return statistics.median(self.samples)


@dataclass
class CaseResult:
    """What one peer showed in one scenario."""

    status: str = "ok"
    error: str = ""
    seconds: float = 0.0
    cells: dict[str, Cell] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        """Take in the lines that a measuring process has written."""
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            cell = self.cells.setdefault(entry["metric"], Cell())
            if "note" in entry:
                cell.note = entry["note"]
            else:
                cell.samples.append(entry["value"])


class Case:
    """One peer in one scenario, as the scenario's code sees it."""

    def __init__(self, peer: Peer, path: Path, *, quick: bool) -> None:
        self.peer = peer
        self.quick = quick
        self._path = path

    def add(self, metric: str, value: float) -> None:
        """Record one sample."""
        self._write({"metric": metric, "value": value})

    def note(self, metric: str, text: str) -> None:
        """Record a word in place of a number, such as ``burns on``."""
        self._write({"metric": metric, "note": text})

    def pick(self, full: int, quick: int) -> int:
        """Return how often to repeat in this form of the run."""
        return quick if self.quick else full

    def _write(self, entry: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class ScenarioResults:
    """The results of every peer in one scenario."""

    def __init__(self) -> None:
        self.cases: dict[str, CaseResult] = {}

    def value(self, peer: str, metric: str) -> float | None:
        """Return the median of one peer, or None where there is no number."""
        case = self.cases.get(peer)
        cell = case.cells.get(metric) if case else None
        return cell.median if cell else None

    def word(self, peer: str, metric: str) -> str | None:
        """Return the word that stands in place of a number, if one does."""
        case = self.cases.get(peer)
        cell = case.cells.get(metric) if case else None
        return cell.note if cell else None

    def best(self, metric: Metric, among: Iterable[str]) -> tuple[str, float] | None:
        """Return which of these peers did best, and its median."""
        measured = [(name, self.value(name, metric.key)) for name in among]
        numbers = [(name, value) for name, value in measured if value is not None]
        if not numbers:
            return None
        choose = max if metric.higher_is_better else min
        return choose(numbers, key=lambda pair: pair[1])

    def peers(self) -> list[str]:
        """Return the measured peers, ours left out."""
        return [name for name in self.cases if name not in OFFLOOP_NAMES]


@dataclass(frozen=True)
class Scenario:
    """One question that is put to every peer."""

    name: str
    title: str
    about: str
    metrics: tuple[Metric, ...]
    run: Callable[[Case], Coroutine[Any, Any, None]]
    goals: tuple[Goal, ...]
    bound_s: float = 60.0
    #: Fresh measuring processes per peer, in the full and the quick form.
    processes: tuple[int, int] = (1, 1)
    #: The strongest peers, measured beside the standard pool in the quick form.
    quick_peers: tuple[str, ...] = ("multiprocessing",)
    #: Peers that the question makes no sense for, with the reason.
    without: dict[str, str] = field(default_factory=dict)
    #: Which of our own entrances the question is put to.
    entrances: tuple[str, ...] = ("offloop",)

    def metric(self, key: str) -> Metric:
        """Return the metric of that key."""
        return next(metric for metric in self.metrics if metric.key == key)


@dataclass
class Run:
    """Everything that one run of the benchmark has measured, and under which circumstances."""

    machine: str
    command: str
    date: str
    #: The 1-minute load average when the run began: other work on the machine spoils it.
    load: float
    quick: bool
    packages: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    #: How many cases there are in all; a run that was interrupted has fewer.
    planned: int = 0
    floor: dict[str, float] = field(default_factory=dict)
    scenarios: dict[str, ScenarioResults] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """How many cases have been measured so far."""
        return sum(len(results.cases) for results in self.scenarios.values())
