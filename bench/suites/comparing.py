"""Runs a suite on both loops, and tells which tests differ and which of those are flaky.

A test that differs runs again, three times alone on each loop, then, if it does not differ alone,
twice together with its module. It *differs* if it does so each time, alone or with its module.
Otherwise it is *flaky*: the same loop gave it several outcomes, or the same ones as the other loop.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.suites.running import OURS, STANDARD, NotCompared, Outcomes, run
from bench.suites.table import Suite

TRIES_ALONE = 3
TRIES_WITH_MODULE = 2
DIFFERENCES_MAX = 40
"""So many differences are looked into; more mean that a suite did not run at all."""

ABSENT = "absent"


@dataclass
class Difference:
    """A test with one outcome on the standard loop and another one on ours."""

    test: str
    standard: str
    ours: str
    is_flaky: bool
    text: str


@dataclass
class Result:
    """What is kept of a comparison, for the report."""

    suite: str
    version: str
    python: str
    date: str
    counts: Mapping[str, Mapping[str, int]]
    loops_made: Mapping[str, int]
    seconds: Mapping[str, float]
    failed_on_both: Sequence[str]
    differences: list[Difference]


def compare(suite: Suite, say: Callable[[str], None]) -> Result:
    """Run the suite on both loops and look into each difference."""
    outcomes = {}
    for loop in (STANDARD, OURS):
        outcomes[loop] = run(suite, loop)
        say(f"{suite.name} on {loop}: {summary(outcomes[loop])}")
        if not outcomes[loop].loops_made:
            raise NotCompared(f"{suite.name} made no loop of the kind `{loop}`")
    standard, ours = outcomes[STANDARD], outcomes[OURS]
    differing = differing_tests(standard.tests, ours.tests)
    differences = []
    for test in differing[:DIFFERENCES_MAX]:
        differences.append(look_into(suite, test, standard, ours))
        found = differences[-1]
        verdict = "flaky" if found.is_flaky else "differs"
        say(f"  {verdict}: {test}: {found.standard} on the standard loop, {found.ours} on ours")
    if len(differing) > DIFFERENCES_MAX:
        raise NotCompared(f"{suite.name}: {len(differing)} tests differ; see {suite.folder}")
    result = Result(
        suite=suite.name,
        version=suite.version,
        python=platform.python_version(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        counts={loop: counts(one) for loop, one in outcomes.items()},
        loops_made={loop: one.loops_made for loop, one in outcomes.items()},
        seconds={loop: round(one.seconds, 1) for loop, one in outcomes.items()},
        failed_on_both=sorted(
            test for test in ours.tests if ours.tests[test] == standard.tests.get(test) == "failed"
        ),
        differences=differences,
    )
    suite.result.parent.mkdir(exist_ok=True)
    suite.result.write_text(json.dumps(asdict(result), indent=1))
    return result


def load(suite: Suite) -> Result | None:
    """The result that is kept of this version of a suite."""
    if not suite.result.is_file():
        return None
    fields = json.loads(suite.result.read_text())
    fields["differences"] = [Difference(**each) for each in fields["differences"]]
    result = Result(**fields)
    return result if result.version == suite.version else None


def differing_tests(standard: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Tests that do not have the same outcome in both."""
    every = {**standard, **ours}
    return [test for test in every if standard.get(test) != ours.get(test)]


def look_into(suite: Suite, test: str, standard: Outcomes, ours: Outcomes) -> Difference:
    """Whether a test differs whenever it is tried, or is flaky."""
    alone = [(test, TRIES_ALONE), (module_of(suite, test), TRIES_WITH_MODULE)]
    differs = any(always_differs(suite, test, chosen, tries) for chosen, tries in alone)
    return Difference(
        test=test,
        standard=standard.tests.get(test, ABSENT),
        ours=ours.tests.get(test, ABSENT),
        is_flaky=not differs,
        text=ours.texts.get(test) or standard.texts.get(test) or "",
    )


def always_differs(suite: Suite, test: str, chosen: str, tries: int) -> bool:
    """Whether each of several runs of what was chosen gives the same difference."""
    seen: dict[str, set[str]] = {STANDARD: set(), OURS: set()}
    for _ in range(tries):
        for loop, kinds in seen.items():
            kinds.add(run(suite, loop, only=chosen).tests.get(test, ABSENT))
        if seen[STANDARD] & seen[OURS] or max(map(len, seen.values())) > 1:
            return False
    return True


def module_of(suite: Suite, test: str) -> str:
    """What to choose, to run a test with those beside it."""
    if suite.runner == "trial":
        return test.rpartition(".")[0]
    return test.partition("::")[0]


def counts(outcomes: Outcomes) -> dict[str, int]:
    """How many tests had which outcome."""
    return {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")}


def summary(outcomes: Outcomes) -> str:
    """One line about a run."""
    listed = ", ".join(f"{count} {outcome}" for outcome, count in counts(outcomes).items())
    end = "its time was over" if outcomes.status is None else f"status {outcomes.status}"
    return f"{listed}; {outcomes.loops_made} loops; {outcomes.seconds:.0f} s; {end}"
