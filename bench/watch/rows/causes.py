"""Ten causes, each in a process of its own: which one a tool names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.harness.goals import exactly
from bench.harness.results import take
from bench.harness.rows import Case, Metric, Statistic
from bench.loop.rows.running import say
from bench.watch import stalls
from bench.watch.reports import cause_numbers
from bench.watch.rows.base import WatchRow, run_on_its_loop, watcher_of
from bench.watch.rows.timed import suffer

if TYPE_CHECKING:
    from bench.harness.building import Programs
    from bench.harness.turns import Turn

#: A part of the key of a cell; the words stand under the name of the cause alone.
_RIGHT = " is right"

_TITLES = {
    "python": "Python CPU",
    "native": "C CPU",
    "native-without-gil": "C CPU, no GIL",
    "other-thread": "another thread",
}
_SAYS_NO_CAUSE = "names no causes"

NAMED = Metric(
    "named",
    "named right",
    f"of {len(stalls.CAUSES)}",
    higher_is_better=True,
    statistic=Statistic.WORST,
)


def _run(case: Case) -> None:
    (cause,) = case.words
    watcher, stall = watcher_of(case), stalls.CAUSES[cause]()
    truth = run_on_its_loop(watcher, suffer(watcher, cause, stall))
    say(**cause_numbers(truth, watcher.reports))


def _ask(turn: Turn, _programs: Programs) -> None:
    answers: dict[str, Any] = {}
    for cause in stalls.CAUSES:
        answers[cause] = turn.start(turn.child(cause)).answer()
        turn.end_processes()
    take(turn.cells, {cause: answer["said"] for cause, answer in answers.items()})
    take(turn.cells, {f"{cause}{_RIGHT}": answer["right"] for cause, answer in answers.items()})
    take(turn.cells, {NAMED.key: sum(answer["right"] for answer in answers.values())})


ROW = WatchRow(
    name="causes",
    title="ten causes",
    about="What a tool says is the cause of 300 ms; of a blocking function, its name. A tool that "
    "says `cpu` and no more is right where code of the loop's thread computes. The number is that "
    "of the worst turn, the words are those of the last one. The file is a regular one, on which "
    "another process has a lease: open(2) waits until that is given up.",
    metrics=(NAMED, *(Metric(cause, _TITLES.get(cause, cause), "") for cause in stalls.CAUSES)),
    goals=(exactly("causes named right, at worst", NAMED, len(stalls.CAUSES)),),
    run=_run,
    contenders=("offloop", "offloop-on-asyncio", "blockbuster", "aiocop"),
    without=dict.fromkeys(("asyncio-debug", "pyleak", "asynclens", "faulthandler"), _SAYS_NO_CAUSE),
    ask=_ask,
    rounds=(50, 1),
    bound_s=120,
)
