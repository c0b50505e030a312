"""Compare the chosen suites, or all, on both loops: ``python -m bench.suites [NAME ...]``.

The exit status is 1 if a test differs for which `differences.toml` has no reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.suites import comparing, report
from bench.suites.preparing import StepFailed, prepare
from bench.suites.running import NotCompared, take_in_orphans
from bench.suites.table import Suite, suites


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.suites", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="suites; all, if none is named")
    parser.add_argument("--write", action="store_true", help="write docs/suites.md")
    parser.add_argument("--no-run", action="store_true", help="only what earlier runs have kept")
    arguments = parser.parse_args()
    chosen = suites(arguments.names)
    failed = [] if arguments.no_run else run_all(chosen)
    if arguments.write:
        report.write(suites())
    results = [result for suite in chosen if (result := comparing.load(suite))]
    say("\n" + report.table(results))
    unexplained = report.unexplained(results)
    for result, difference in unexplained:
        say(f"\nwithout a reason: {result.suite} {difference.test}\n{difference.text}")
    for name, problem in failed:
        say(f"\nno result of {name}: {problem}")
    return 1 if unexplained or failed else 0


def run_all(chosen: Sequence[Suite]) -> list[tuple[str, Exception]]:
    """Run each suite on both loops; if one cannot be compared, the rest is run all the same."""
    take_in_orphans()
    failed: list[tuple[str, Exception]] = []
    for suite in chosen:
        say(f"{suite.name} {suite.version}")
        try:
            prepare(suite)
            comparing.compare(suite, say)
        except (NotCompared, StepFailed) as problem:
            failed.append((suite.name, problem))
    return failed


def say(line: str) -> None:
    """Show a line at once, in files and pipes as well."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
