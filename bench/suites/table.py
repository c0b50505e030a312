"""The table of suites, and where each keeps what is made for it.

Units: ``bound_s`` and ``test_s`` are seconds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target" / "suites"


@dataclass(frozen=True)
class Suite:
    """One suite: what `suites.toml` says of it."""

    name: str
    version: str
    requirements: Sequence[str]
    files: Sequence[str]
    arguments: Sequence[str]
    bound_s: int
    test_s: int
    package: str = ""
    source: str = ""
    runner: str = "pytest"
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    @property
    def pinned(self) -> str:
        """The requirement for the package itself."""
        return f"{self.package or self.name}=={self.version}"

    @property
    def folder(self) -> Path:
        """What is made for this suite."""
        return WORK / self.name

    @property
    def result(self) -> Path:
        """What is kept of its last comparison, also when its folder is made again."""
        return WORK / "results" / f"{self.name}.json"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def tests(self) -> Path:
        """Where it runs: its tests, without the package that they test."""
        return self.folder / "tests"


def suites(chosen: Sequence[str] = ()) -> list[Suite]:
    """All suites, or those that were chosen by name."""
    table = tomllib.loads((HERE / "suites.toml").read_text())
    known = {entry["name"]: Suite(**entry) for entry in table["suite"]}
    unknown = set(chosen) - set(known)
    if unknown:
        raise LookupError(f"no suite is called {', '.join(sorted(unknown))}")
    return [known[name] for name in chosen or known]


def reasons() -> list[tuple[str, str, str]]:
    """Differences that are known: the suite, how the test's id begins, and why it differs."""
    table = tomllib.loads((HERE / "differences.toml").read_text())
    return [(entry["suite"], entry["test"], entry["reason"]) for entry in table["difference"]]
