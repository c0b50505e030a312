"""The numbers to reach, and whether they were reached: bounds, and ratios to the peers.

A goal has one or more bounds, and is reached when all of them are. Without the numbers that a
bound needs it is neither reached nor missed: it says "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.results import PPE_NAMES, Metric, ScenarioResults


@dataclass(frozen=True)
class Against:
    """Whom a ratio is taken to: of these peers the best counts; no names mean all but ours."""

    title: str
    names: tuple[str, ...] = ()

    def best(self, results: ScenarioResults, metric: Metric) -> tuple[str, float] | None:
        """Return the best of them, and its number."""
        return results.best(metric, self.names or results.peers())


#: The best of the standard pool's three start methods.
PPE = Against("PPE", PPE_NAMES)
#: The start method whose start-up we share, and the default from CPython 3.14 on.
PPE_FORKSERVER = Against("PPE (forkserver)", ("ppe-forkserver",))
#: The best of all measured peers, the standard pool included.
BEST_PEER = Against("best peer")


class Bound(Protocol):
    """One condition on a number."""

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""

    def edge(self, results: ScenarioResults, metric: Metric) -> float | None:
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

    def edge(self, results: ScenarioResults, metric: Metric) -> float | None:
        """Return the bound."""
        return self.bound

    def holds(self, value: float, edge: float, metric: Metric) -> bool:
        """Compare in the metric's direction."""
        return value >= edge if metric.higher_is_better else value <= edge


@dataclass(frozen=True)
class Ratio(Limit):
    """The number must not pass ``bound`` times that of others on its bad side."""

    against: Against

    def text(self, metric: Metric) -> str:
        """Return the condition in words."""
        return f"{_sign(metric)} {format_number(self.bound)} x {self.against.title}"

    def edge(self, results: ScenarioResults, metric: Metric) -> float | None:
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
    bounds: tuple[Bound, ...]
    #: Through which of our entrances. Lines without bounds only show a number.
    peer: str = "offloop"
    #: What stands for the standard pool beside it.
    standard: Against = PPE

    @property
    def target(self) -> str:
        """All conditions in words."""
        return ", ".join(bound.text(self.metric) for bound in self.bounds)

    def judge(self, results: ScenarioResults) -> Verdict:
        """Compare what was measured with the bounds and with the peers."""
        metric = self.metric
        ours = results.value(self.peer, metric.key)
        standard = self.standard.best(results, metric)
        best = BEST_PEER.best(results, metric)
        return Verdict(
            what=self.what,
            target=self.target,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            ours=ours,
            standard=standard,
            best=best,
            to_standard=_ratio(ours, standard),
            to_best=_ratio(ours, best),
            peers={name: results.value(name, metric.key) for name in results.peers()},
            words={
                name: word
                for name in (self.peer, *results.peers())
                if (word := results.word(name, metric.key)) is not None
            },
            entrance=self.peer,
            edge=self._hardest_edge(results),
            reached=self._reached(ours, results),
        )

    def reached_by(self, value: float, results: ScenarioResults) -> bool:
        """Return whether a number, ours or a peer's, meets the bounds that are plain numbers."""
        plain = [bound for bound in self.bounds if not isinstance(bound, Ratio)]
        edges = [(bound, bound.edge(results, self.metric)) for bound in plain]
        return all(bound.holds(value, edge or 0.0, self.metric) for bound, edge in edges)

    def _reached(self, ours: float | None, results: ScenarioResults) -> bool | None:
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

    def _hardest_edge(self, results: ScenarioResults) -> float | None:
        """Return the bound that is hardest to meet."""
        edges = [bound.edge(results, self.metric) for bound in self.bounds]
        known = [edge for edge in edges if edge is not None]
        choose = max if self.metric.higher_is_better else min
        return choose(known) if known else None


@dataclass(frozen=True)
class Verdict:
    """Whether one number was reached, and how it stands to those of the peers."""

    what: str
    target: str
    unit: str
    higher_is_better: bool
    ours: float | None
    standard: tuple[str, float] | None
    best: tuple[str, float] | None
    to_standard: float | None
    to_best: float | None
    peers: dict[str, float | None]
    #: What stands in place of a number: ``burns on``, ``hangs``, ``pool broken``.
    words: dict[str, str]
    entrance: str
    edge: float | None
    reached: bool | None

    def show(self, peer: str) -> str:
        """Return the number of a peer, or of ourselves, or the word in its place."""
        value = self.ours if peer == self.entrance else self.peers.get(peer)
        return format_number(value) if value is not None else self.words.get(peer, "")


def limit(what: str, metric: Metric, bound: float, *more: Bound, peer: str = "offloop") -> Goal:
    """Make the goal of a plain bound, and perhaps more."""
    return Goal(what, metric, (Limit(bound), *more), peer)


def ratio(
    what: str,
    metric: Metric,
    factor: float,
    against: Against,
    *more: Bound,
    peer: str = "offloop",
) -> Goal:
    """Make the goal of a ratio, and perhaps more bounds."""
    standard = PPE if against is BEST_PEER else against
    return Goal(what, metric, (Ratio(factor, against), *more), peer, standard)


def exactly(what: str, metric: Metric, number: float, *, peer: str = "offloop") -> Goal:
    """Make the goal of one exact number."""
    return Goal(what, metric, (Exactly(number),), peer)


def beside(what: str, metric: Metric, *, peer: str = "offloop") -> Goal:
    """Make a line that has no bound: what is to be seen beside the goals."""
    return Goal(what, metric, (), peer)


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
