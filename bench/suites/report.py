"""The table of all comparisons, and ``docs/suites.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.suites.comparing import Difference, Result, load
from bench.suites.running import OURS, STANDARD
from bench.suites.table import ROOT, Suite, reasons

PAGE = ROOT / "docs" / "suites.md"
OUTCOMES = ("passed", "failed", "skipped")

HEAD = """\
# Test suites of other projects

`make suites` fetches the test suites of projects that use an event loop, runs each on the standard
loop and on `offloop.EventLoop`, on the same machine, and compares test by test. It has written this
page; `bench/suites` has the details. Each suite runs in a network of its own that has only the
loopback device, so tests that need the internet fail or are skipped on both loops. The run on ours
counts only if every loop that the suite made was ours, and the other run only if none was.

A test that does not have the same outcome on both is tried again, three times alone and twice with
its module, on each loop. It differs if it does so each time; otherwise it is flaky.
"""


def write(suites: Sequence[Suite]) -> None:
    """Write the page, of all results that are kept."""
    PAGE.write_text(page(suites, [result for suite in suites if (result := load(suite))]))


def page(suites: Sequence[Suite], results: Sequence[Result]) -> str:
    """The text of the page."""
    notes = [f"- **{suite.name}**: {suite.notes}." for suite in suites if suite.notes]
    named = {result.suite for result in results}
    missing = [f"`{suite.name}`" for suite in suites if suite.name not in named]
    parts = [
        HEAD,
        f"Passed, failed and skipped tests on CPython {results[0].python}:\n",
        table(results),
        f"There is no result yet of {', '.join(missing)}.\n" if missing else "",
        "What to know of some:\n" if notes else "",
        "\n".join(notes),
        "\n## Tests that differ\n",
        "\n".join(differing(results)) or "None.",
        "\n## Flaky tests\n",
        "\n".join(flaky(results)) or "None.",
        "\n## Tests that fail on both loops\n",
        "They need what the machine or its closed network does not have, are not made for root,\n"
        "are broken by newer packages, or, in uvloop's suite, are about uvloop alone.\n",
        "\n".join(failing_on_both(results)) or "None.",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def table(results: Sequence[Result]) -> str:
    """A row for each suite."""
    rows = [
        "| suite | version | standard loop | ours | differ | flaky | run on |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = [
            result.suite,
            result.version,
            *(
                " / ".join(f"{result.counts[loop][each]:,}" for each in OUTCOMES)
                for loop in (STANDARD, OURS)
            ),
            str(sum(not each.is_flaky for each in result.differences)),
            str(sum(each.is_flaky for each in result.differences)),
            result.date,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def differing(results: Sequence[Result]) -> Iterator[str]:
    """A line for each test that differs, with the reason."""
    for result in results:
        for difference in result.differences:
            if not difference.is_flaky:
                reason = reason_for(result, difference) or "not explained yet"
                yield f"- {shown(result, difference)}: {reason}"


def flaky(results: Sequence[Result]) -> Iterator[str]:
    """A line for each flaky test."""
    for result in results:
        for difference in result.differences:
            if difference.is_flaky:
                reason = reason_for(result, difference)
                yield f"- {shown(result, difference)}" + (f": {reason}" if reason else "")


def failing_on_both(results: Sequence[Result]) -> Iterator[str]:
    """How many tests of each suite fail on both loops, and which modules they are in."""
    for result in results:
        if result.failed_on_both:
            modules = sorted({module_name(test) for test in result.failed_on_both})
            count = len(result.failed_on_both)
            yield f"- {result.suite}: {count}, in {', '.join(f'`{name}`' for name in modules)}"


def module_name(test: str) -> str:
    """The module of a test, whose id is either pytest's or trial's."""
    if "::" in test or "/" in test:
        return test.partition("::")[0]
    return ".".join(part for part in test.split(".") if not part[:1].isupper()).rpartition(".")[0]


def shown(result: Result, difference: Difference) -> str:
    """One line about a test: how it ended on both."""
    outcomes = f"{difference.standard} on the standard loop, {difference.ours} on ours"
    return f"{result.suite} `{difference.test}`: {outcomes}"


def unexplained(results: Sequence[Result]) -> list[tuple[Result, Difference]]:
    """Tests that differ without a known reason."""
    return [
        (result, difference)
        for result in results
        for difference in result.differences
        if not difference.is_flaky and reason_for(result, difference) is None
    ]


def reason_for(result: Result, difference: Difference) -> str | None:
    """Why a test differs, if that is known."""
    for suite, test, reason in reasons():
        if suite == result.suite and difference.test.startswith(test):
            return reason
    return None
