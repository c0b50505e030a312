"""The numbers to reach, and whether they were reached: bounds, and ratios to the peers.

A goal has one or more bounds, and is reached when all of them are. Without the numbers that a
bound needs it is neither reached nor missed: it says "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.harness.results import RowResults, Run
from bench.harness.rows import Metric


@dataclass(frozen=True)
class Against:
    """What a ratio is taken to: the best of these contenders, or of all peers without names."""

    title: str
    names: tuple[str, ...] = ()

    def best(self, results: RowResults, metric: Metric) -> tuple[str, float] | None:
        """Return the best of them, and its number."""
        return results.best(metric, self.names or results.peers())


#: The best of all measured peers.
BEST_PEER = Against("best peer")


class Bound(Protocol):
    """One condition on a number."""

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""

    def edge(self, results: RowResults, metric: Metric) -> float | None:
        """Return the number that must not be passed; None when it was not measured."""

    def holds(self, value: float, edge: float, metric: Metric) -> bool:
        """Return whether ``value`` is on the good side."""


@dataclass(frozen=True)
class Limit:
    """The number must not pass ``bound`` on its bad side."""

    bound: float

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""
        return f"{_sign(metric)} {format_number(self.bound)} {metric.unit}".strip()

    def edge(self, results: RowResults, metric: Metric) -> float | None:
        """Return the bound."""
        return self.bound

    def holds(self, value: float, edge: float, metric: Metric) -> bool:
        """Compare in the metric's direction."""
        return value >= edge if metric.higher_is_better else value <= edge


@dataclass(frozen=True)
class Ratio(Limit):
    """The number must not pass ``bound`` times that of other contenders on its bad side."""

    against: Against

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""
        return f"{_sign(metric)} {format_number(self.bound)} x {self.against.title}"

    def edge(self, results: RowResults, metric: Metric) -> float | None:
        """Return the multiple of the other's number."""
        best = self.against.best(results, metric)
        return None if best is None or best[1] == 0 else best[1] * self.bound


@dataclass(frozen=True)
class Exactly(Limit):
    """The number must be this one: fewer would be as wrong as more."""

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""
        return f"= {format_number(self.bound)} {metric.unit}".strip()

    def holds(self, value: float, edge: float, metric: Metric) -> bool:
        """Compare."""
        return value == edge


@dataclass(frozen=True)
class Goal:
    """One number to reach."""

    what: str
    metric: Metric
    #: Lines without bounds only show a number.
    bounds: tuple[Bound, ...]
    #: Through which of our entrances.
    entrance: str = "offloop"
    #: What the number is compared with, where that is not the benchmark's usual standard.
    standard: Against | None = None

    @property
    def target(self) -> str:
        """All conditions in words."""
        return ", ".join(bound.text(self.metric) for bound in self.bounds)

    def judge(self, results: RowResults, usual: Against) -> Verdict:
        """Compare what was measured with the bounds and with the other contenders."""
        metric = self.metric
        ours = results.value(self.entrance, metric)
        standard = (self.standard or usual).best(results, metric)
        best = BEST_PEER.best(results, metric)
        others = {name: results.value(name, metric) for name in results.others()}
        words = {name: results.word(name, metric) for name in (self.entrance, *others)}
        return Verdict(
            row=results.row.name,
            what=self.what,
            target=self.target,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            entrance=self.entrance,
            ours=ours,
            standard=standard,
            best=best,
            to_standard=_ratio(ours, standard),
            to_best=_ratio(ours, best),
            peers={name: others[name] for name in results.peers()},
            ratios={
                name: ours / value for name, value in others.items() if ours is not None and value
            },
            words={name: word for name, word in words.items() if word is not None},
            edge=self._hardest_edge(results),
            reached=self._reached(ours, results),
        )

    def reached_by(self, value: float, results: RowResults) -> bool:
        """Return whether a number, ours or a peer's, meets the bounds that are plain numbers."""
        plain = [bound for bound in self.bounds if not isinstance(bound, Ratio)]
        edges = [(bound, bound.edge(results, self.metric)) for bound in plain]
        return all(bound.holds(value, edge or 0.0, self.metric) for bound, edge in edges)

    def _reached(self, ours: float | None, results: RowResults) -> bool | None:
        edges = [bound.edge(results, self.metric) for bound in self.bounds]
        if ours is None or not edges:
            return None
        known = [
            bound.holds(ours, edge, self.metric)
            for bound, edge in zip(self.bounds, edges, strict=True)
            if edge is not None
        ]
        if not all(known):
            return False
        return True if len(known) == len(edges) else None

    def _hardest_edge(self, results: RowResults) -> float | None:
        """Return the bound that is hardest to meet."""
        edges = [bound.edge(results, self.metric) for bound in self.bounds]
        known = [edge for edge in edges if edge is not None]
        choose = max if self.metric.higher_is_better else min
        return choose(known) if known else None


@dataclass(frozen=True)
class Verdict:
    """Whether one number was reached, and its ratios to those of the other contenders."""

    row: str
    what: str
    target: str
    unit: str
    higher_is_better: bool
    entrance: str
    ours: float | None
    standard: tuple[str, float] | None
    best: tuple[str, float] | None
    to_standard: float | None
    to_best: float | None
    peers: dict[str, float | None]
    #: Our number divided by that of each other contender, the floor included.
    ratios: dict[str, float]
    #: What stands in place of a number: ``burns on``, ``hangs``, ``pool broken``.
    words: dict[str, str]
    edge: float | None
    reached: bool | None


@dataclass(frozen=True)
class Line:
    """One number to reach, its verdict, and the results that it was judged by."""

    goal: Goal
    verdict: Verdict
    results: RowResults

    def value(self, name: str) -> float | None:
        """Return the number of a contender."""
        return self.results.value(name, self.goal.metric)

    def show(self, name: str) -> str:
        """Return the number of a contender, or the word in its place."""
        return show(self.results, name, self.goal.metric)


def judged(run: Run, usual: Against) -> list[Line]:
    """Judge every number to reach of the rows that were run."""
    return [
        Line(goal, goal.judge(results, usual), results)
        for results in run.rows.values()
        for goal in results.row.goals
    ]


def limit(what: str, metric: Metric, bound: float, *more: Bound, entrance: str = "offloop") -> Goal:
    """Make the goal of a plain bound, and perhaps more."""
    return Goal(what, metric, (Limit(bound), *more), entrance)


def ratio(
    what: str,
    metric: Metric,
    factor: float,
    against: Against = BEST_PEER,
    *more: Bound,
    entrance: str = "offloop",
    standard: Against | None = None,
) -> Goal:
    """Make the goal of a ratio, and perhaps more bounds."""
    return Goal(what, metric, (Ratio(factor, against), *more), entrance, standard)


def exactly(what: str, metric: Metric, number: float) -> Goal:
    """Make the goal of one exact number."""
    return Goal(what, metric, (Exactly(number),))


def beside(what: str, metric: Metric, *, entrance: str = "offloop") -> Goal:
    """Make a line that has no bound: what is to be seen beside the goals."""
    return Goal(what, metric, (), entrance)


def show(results: RowResults, name: str, metric: Metric) -> str:
    """Write the number of a contender, or the word in its place, or a dash."""
    value = results.value(name, metric)
    return format_number(value) if value is not None else results.word(name, metric) or "-"


def format_number(value: float) -> str:
    """Write a number with three digits that matter, and a large one with separators."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return "< 0.001"
    return f"{value:.3g}"


def _sign(metric: Metric) -> str:
    return ">=" if metric.higher_is_better else "<="


def _ratio(ours: float | None, other: tuple[str, float] | None) -> float | None:
    return None if ours is None or other is None or other[1] == 0 else ours / other[1]
