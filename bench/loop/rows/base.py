"""What a row of the table is made of: a question, how it is put, and the numbers to reach.

A row is put in one of two ways. *Alone*: a process measures itself, prints its numbers as one line
of JSON, and ends. *Served*: a process serves and prints its port, then the client in Rust asks it,
and prints the numbers; or, for rows about idle connections, the client only connects, and the
server prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.loop.contenders import FLOOR, GATHERING, LOOPS, Contender
from bench.reach import Against, Goal, Limit, Ratio
from bench.results import Metric, ScenarioResults

#: The heap's behaviour, pinned: glibc serves large receive buffers from the heap, or by mmap and
#: munmap each time, depending on what the process has freed before.
HEAPS = {
    "warm": {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"},
    "cold": {"MALLOC_MMAP_THRESHOLD_": "131072"},
    "": {},
}

#: The floor in C, beside which a number stands.
C = Against(FLOOR, (FLOOR,))
BEST = Against("best peer")


class Unavailable(Exception):
    """What a contender says when it cannot be asked here; the text stands in the table."""


class RowResults(ScenarioResults):
    """The results of all contenders in one row; the floor is nobody's peer, nor are we ours."""

    def peers(self) -> list[str]:
        """Return the measured peers, ours and the floor left out."""
        return [name for name in super().peers() if name not in (FLOOR, GATHERING)]


@dataclass(frozen=True)
class Load:
    """What the client does to a server."""

    #: ``echo``, ``http`` or ``idle``.
    command: str
    connections: int
    size: int = 0
    tls: bool = False
    #: Who prints the numbers: the client, or the server once it has all its connections.
    answered_by_server: bool = False

    def words(self) -> list[str]:
        """Return it as arguments of the client."""
        words = [self.command, "--connections", str(self.connections)]
        if self.size:
            words += ["--size", str(self.size)]
        return [*words, "--tls"] if self.tls else words


@dataclass(frozen=True)
class Row:
    """One question that is put to every contender."""

    name: str
    title: str
    about: str
    metrics: tuple[Metric, ...]
    goals: tuple[Goal, ...]
    #: What the measuring process does: print numbers, or serve. The flag is the quick form.
    run: Callable[[Contender, bool], None]
    contenders: tuple[str, ...] = LOOPS
    #: What the client does, where there is one.
    load: Load | None = None
    #: The program of the floor in C and its arguments, where there is one.
    floor: tuple[str, ...] | None = None
    heap: str = ""
    #: How often each contender is measured, in the full and the quick form.
    rounds: tuple[int, int] = (6, 2)
    bound_s: float = 60.0
    #: Contenders left out in the quick form.
    full_only: tuple[str, ...] = ()
    #: Contenders that cannot be asked this, with the reason.
    without: tuple[tuple[str, str], ...] = ()

    def names(self, *, quick: bool) -> list[str]:
        """Return whom it is put to, the floor last."""
        left_out = self.full_only if quick else ()
        names = [name for name in self.contenders if name not in left_out]
        return [*names, FLOOR] if self.floor else names


def goal(
    what: str, metric: Metric, bound: float, against: Against | None = BEST, *more: Ratio
) -> Goal:
    """Make a number to reach, with the floor beside it; against nobody it is a plain limit."""
    first = Limit(bound) if against is None else Ratio(bound, against)
    return Goal(what, metric, (first, *more), standard=C)


def beside(what: str, metric: Metric) -> Goal:
    """Make a line without a number to reach."""
    return Goal(what, metric, (), standard=C)
