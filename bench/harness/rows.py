"""What a benchmark is made of: rows, which are questions, and the contenders that answer them.

Measuring processes import this module, so it imports little.
"""

from __future__ import annotations

import enum
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.harness.goals import Goal


class Role(enum.Enum):
    """What a contender is to the numbers to reach."""

    #: One of offloop's entrances: its numbers are judged.
    OURS = enum.auto()
    #: offloop with an option, or nothing at all: it has a column, and is compared with nothing.
    VARIANT = enum.auto()
    #: A program without Python, which shows what the machine takes at least.
    FLOOR = enum.auto()
    #: All other contenders: the best of them counts.
    PEER = enum.auto()


@dataclass(frozen=True)
class Contender:
    """One name in the tables.

    Its package is imported only in its own measuring process, so that none pays for another.
    """

    name: str
    #: Makes what is asked: a pool, or an event loop. A floor is a program instead.
    make: Callable[[], Any] | None
    #: The package that has to be installed, which the results name with its version.
    package: str | None = None
    #: The oldest Python that it runs on.
    python: tuple[int, int] = (3, 11)
    role: Role = Role.PEER
    #: Its mark and colour in the picture.
    sign: tuple[str, str] = ("o", "black")
    #: The head of its column, where that is not its name.
    head: str = ""
    #: What stands before the measuring module on the command line of the interpreter.
    launcher: tuple[str, ...] = ()

    def absence(self) -> str | None:
        """Say why it cannot be measured here; None when it can."""
        if sys.version_info[:2] < self.python:
            return f"needs Python {self.python[0]}.{self.python[1]}"
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return "not installed"
        return None


class Statistic(enum.Enum):
    """What stands for all samples of a number."""

    MEDIAN = enum.auto()
    #: Of shares: how often something was so.
    MEAN = enum.auto()
    #: What may never be passed.
    WORST = enum.auto()


@dataclass(frozen=True)
class Metric:
    """One measured quantity of a row. Two metrics of one key are two views of its samples."""

    key: str
    title: str
    unit: str
    higher_is_better: bool = False
    statistic: Statistic = Statistic.MEDIAN


@dataclass(frozen=True)
class Case:
    """One contender in one row, as the row's code sees it in the measuring process."""

    contender: Contender
    quick: bool
    #: Where samples go, if not to standard output.
    samples: Path | None = None
    #: What this process is to do, where a row has several for one contender.
    words: tuple[str, ...] = ()

    def pick(self, full: int, quick: int) -> int:
        """Return how often to repeat in this form of the run."""
        return quick if self.quick else full


#: Puts the question in the measuring process. What it returns, if anything, runs on the standard
#: loop; a row about loops runs on the contender's own instead.
Put = Callable[[Case], Coroutine[Any, Any, None] | None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question, how it is put, its contenders, and the numbers to reach."""

    name: str
    title: str
    about: str
    metrics: tuple[Metric, ...]
    goals: tuple[Goal, ...] = ()
    #: What a measuring process does; a row that is put to the floor alone has none.
    run: Put | None = None
    #: The contenders that it is put to, in the order of the turns.
    contenders: tuple[str, ...]
    #: Contenders left out in the quick form.
    full_only: tuple[str, ...] = ()
    #: Contenders that cannot be asked this, with the reason.
    without: Mapping[str, str] = field(default_factory=dict)
    #: The name of the floor's program and its arguments, where there is one.
    program: tuple[str, ...] = ()
    #: How many turns each contender has, in the full and the quick form.
    rounds: tuple[int, int] = (1, 1)
    #: The time of one turn.
    bound_s: float = 60.0
    #: Whether a turn lasts as long as the command line says, with ``bound_s`` besides.
    lasts: bool = False
    #: What is added to the environment of the measuring process.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Packages that the row uses itself, beside those of the contenders.
    packages: tuple[str, ...] = ()
    #: Whether the numbers are counts, limits or words, of which no ratio tells.
    is_outcome: bool = False

    def names(self, *, quick: bool) -> list[str]:
        """Return the contenders that it is put to in this form of the run."""
        return [name for name in self.contenders if not (quick and name in self.full_only)]
