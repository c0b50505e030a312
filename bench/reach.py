"""Judging the numbers to reach: limits, and ratios to the standard pool or to the best peer.

A line without the numbers it needs is neither reached nor missed: it says "not measured".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import PPE_NAMES, Metric, Reach, ScenarioResults, Verdict


@dataclass(frozen=True)
class Against:
    """Whom a ratio is taken to: some of the peers, the best of them counts."""

    title: str
    choose: Callable[[ScenarioResults], list[str]]


#: The best of the standard pool's three start methods.
PPE = Against("PPE", lambda results: list(PPE_NAMES))
#: The start method whose start-up we share, and the default from CPython 3.14 on.
PPE_FORKSERVER = Against("PPE (forkserver)", lambda results: ["ppe-forkserver"])
#: Every measured peer, the standard pool included.
BEST_PEER = Against("best peer", lambda results: results.peers())


def limit(what: str, metric: Metric, bound: float, *, peer: str = "offloop") -> Reach:
    """Our number must not pass ``bound`` on its bad side."""
    sign = ">=" if metric.higher_is_better else "<="

    def judge(results: ScenarioResults, reach: Reach) -> Verdict:
        ours = results.value(peer, metric.key)
        compared = _name_best(results.best(metric, BEST_PEER.choose(results)), metric)
        reached = None if ours is None else _within(ours, bound, metric)
        return Verdict(what, reach.target, _show(ours, metric), compared, reached)

    return Reach(what, f"{sign} {_number(bound)} {metric.unit}".strip(), judge)


def ratio(
    what: str, metric: Metric, factor: float, against: Against, *, peer: str = "offloop"
) -> Reach:
    """Our number must not pass ``factor`` times that of the others on its bad side."""
    sign = ">=" if metric.higher_is_better else "<="

    def judge(results: ScenarioResults, reach: Reach) -> Verdict:
        ours = results.value(peer, metric.key)
        theirs = results.best(metric, against.choose(results))
        if ours is None or theirs is None or theirs[1] == 0:
            return Verdict(
                what, reach.target, _show(ours, metric), _name_best(theirs, metric), None
            )
        measured = f"{_show(ours, metric)}, {ours / theirs[1]:.2f} x"
        reached = _within(ours, theirs[1] * factor, metric)
        return Verdict(what, reach.target, measured, _name_best(theirs, metric), reached)

    return Reach(what, f"{sign} {_number(factor)} x {against.title}", judge)


def _within(value: float, bound: float, metric: Metric) -> bool:
    return value >= bound if metric.higher_is_better else value <= bound


def _name_best(best: tuple[str, float] | None, metric: Metric) -> str:
    return "none" if best is None else f"{best[0]} {_show(best[1], metric)}"


def _show(value: float | None, metric: Metric) -> str:
    return "not measured" if value is None else f"{_number(value)} {metric.unit}".strip()


def _number(value: float) -> str:
    """Write a number with three digits that matter, and a large one with separators."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


format_number = _number
