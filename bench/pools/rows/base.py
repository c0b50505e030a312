"""What the rows about pools have in common: the peer that is asked, and their contenders."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from bench.harness import rows
from bench.harness.goals import Goal
from bench.harness.rows import Metric, Row
from bench.pools.contenders import PEERS
from bench.pools.peers.base import Peer

#: For rows about warm pools that do not care how a worker came to be.
LIKE_FORKSERVER = {
    "ppe-spawn": "its workers differ from those of ppe-forkserver in their start only"
}


class Case:
    """One peer in one row, as the row's code sees it; its package is imported, its pool not made.

    Every sample is a line in the file, so that it stays if the process hangs or dies later.
    """

    def __init__(self, case: rows.Case) -> None:
        assert case.contender.make is not None
        assert case.samples is not None
        self.peer: Peer = case.contender.make()
        self.pick = case.pick
        self._samples = case.samples

    def add(self, metric: str, value: float) -> None:
        """Record one sample."""
        self._write({metric: value})

    def note(self, metric: str, text: str) -> None:
        """Record a word in place of a number, such as ``burns on``."""
        self._write({metric: text})

    def _write(self, entry: dict[str, float | str]) -> None:
        with self._samples.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def row(
    *,
    name: str,
    title: str,
    about: str,
    metrics: tuple[Metric, ...],
    run: Callable[[Case], Coroutine[Any, Any, None]],
    goals: tuple[Goal, ...],
    entrances: tuple[str, ...] = ("offloop",),
    quick_peers: tuple[str, ...] = ("multiprocessing",),
    without: Mapping[str, str] | None = None,
    packages: tuple[str, ...] = (),
    rounds: tuple[int, int] = (1, 1),
    bound_s: float = 60.0,
    is_outcome: bool = False,
) -> Row:
    """Make a row that is put to these entrances of ours and to every peer.

    The quick form asks the standard pool and the strongest peers.
    """
    without = without or {}
    peers = [name for name in PEERS if name not in without]
    quick = ("ppe-forkserver", *quick_peers)
    return Row(
        name=name,
        title=title,
        about=about,
        metrics=metrics,
        goals=goals,
        run=lambda case: run(Case(case)),
        contenders=(*entrances, *peers),
        full_only=tuple(name for name in peers if name not in quick),
        without=without,
        rounds=rounds,
        bound_s=bound_s,
        packages=packages,
        is_outcome=is_outcome,
    )
