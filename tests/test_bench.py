"""The benchmarks: how turns are taken and judged, and the short form of each on cheap rows."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.harness import report  # noqa: E402
from bench.harness.accounts import is_alive  # noqa: E402
from bench.harness.command import batches  # noqa: E402
from bench.harness.goals import BEST_PEER, Against, Limit, limit, ratio  # noqa: E402
from bench.harness.results import CaseResult, RowResults, take  # noqa: E402
from bench.harness.rows import Contender, Metric, Role, Row, Statistic  # noqa: E402
from bench.harness.turns import Failure, Turn  # noqa: E402

SECONDS_MAX = 170
"""The client is built for the rows of servers, on a machine that may be busy."""

BOUND_SECONDS = 20.0
"""The bound of a turn that is expected to end by itself."""

CLIENT_NUMBERS = ("requests_per_s", "server_cpu_us", "p50_us", "p99_us", "client_cpu_us")

MS = Metric("ms", "each", "ms")
RATE = Metric("rate", "calls", "1/s", higher_is_better=True)

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("floor", None, role=Role.FLOOR),
        Contender("offloop", object, role=Role.OURS),
        Contender("offloop-option", object, role=Role.VARIANT),
        Contender("slow", object),
        Contender("quick", object),
    )
}
STANDARD = Against("slow", ("slow",))

pytestmark = pytest.mark.timeout(SECONDS_MAX + 10)


def row(*goals, bound_s=BOUND_SECONDS):
    """A row that is put to every contender."""
    return Row(
        name="row",
        title="a row",
        about="It asks nothing.",
        metrics=(MS, RATE),
        goals=goals,
        contenders=tuple(CONTENDERS),
        bound_s=bound_s,
    )


def results(asked, **samples):
    """What each contender has shown, the dashes of its name written as in Python."""
    shown = RowResults(asked, CONTENDERS)
    for name, entries in samples.items():
        case = shown.cases.setdefault(name.replace("_", "-"), CaseResult())
        for entry in entries:
            take(case.cells, entry)
    return shown


class Script(Turn):
    """A turn whose child is a few lines of Python; its file of samples is the first argument."""

    script = ""

    def child(self, *more):
        """Run the lines instead of a row."""
        return [sys.executable, "-c", f"import os, subprocess, sys\n{self.script}", *more[1:]]


def turn(tmp_path, script, bound_s=BOUND_SECONDS):
    """A turn that runs these lines."""
    one = Script("harness", row(bound_s=bound_s), CONTENDERS["offloop"], tmp_path, quick=True)
    one.script = script
    return one


def test_contenders_in_alternation_go_forwards_and_backwards():
    assert batches(["a", "b", "c"], 3, True) == [list("abccbaabc")]


def test_contenders_without_alternation_have_all_their_turns_at_once():
    assert batches(["a", "b"], 2, False) == [["a", "a"], ["b", "b"]]


def test_contender_says_why_it_is_absent():
    assert Contender("here", object, "json").absence() is None
    assert Contender("too new", object, "json", (9, 1)).absence() == "needs Python 9.1"
    assert Contender("nowhere", object, "no_such_package").absence() == "not installed"


def test_best_peer_is_neither_ours_nor_a_variant_nor_the_floor():
    shown = results(
        row(),
        floor=[{"ms": 1}],
        offloop=[{"ms": 2}],
        offloop_option=[{"ms": 3}],
        slow=[{"ms": 9}],
        quick=[{"ms": 4}],
    )
    assert BEST_PEER.best(shown, MS) == ("quick", 4.0)
    assert shown.others() == ["floor", "offloop-option", "slow", "quick"]


@pytest.mark.parametrize(
    ("statistic", "ms", "rate"),
    [(Statistic.MEDIAN, 2, 30), (Statistic.MEAN, 4, 40), (Statistic.WORST, 9, 20)],
)
def test_number_stands_for_its_samples_as_its_metric_says(statistic, ms, rate):
    shown = results(
        row(), quick=[{"ms": 1, "rate": 70}, {"ms": 2, "rate": 20}, {"ms": 9, "rate": 30}]
    )
    assert shown.value("quick", replace(MS, statistic=statistic)) == ms
    assert shown.value("quick", replace(RATE, statistic=statistic)) == rate


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (ratio("half", MS, 0.5), True),
        (ratio("a third", MS, 0.3), False),
        (ratio("of the standard", RATE, 2, STANDARD), True),
        (ratio("of the standard, and a limit", RATE, 2, STANDARD, Limit(50)), False),
        (ratio("of nobody", MS, 0.5, Against("nobody", ("nobody",))), None),
        (limit("through another entrance", MS, 5, entrance="offloop-executor"), None),
    ],
)
def test_goal_is_reached_missed_or_not_measured(goal, reached):
    shown = results(
        row(),
        offloop=[{"ms": 1, "rate": 40}, {"ms": 2, "rate": 40}, {"ms": 3, "rate": 40}],
        slow=[{"ms": 9, "rate": 20}],
        quick=[{"ms": 4, "rate": 30}],
    )
    verdict = goal.judge(shown, STANDARD)
    assert verdict.reached == reached
    if verdict.ours is not None:
        assert verdict.standard == ("slow", shown.value("slow", goal.metric))
        assert verdict.ratios["quick"] == verdict.ours / shown.value("quick", goal.metric)


def test_word_stands_for_what_a_failing_turn_did_not_reach():
    goal = limit("each", MS, 5)
    shown = results(row(goal), offloop=[{"ms": 1, "rate": 7}], slow=[{"ms": 9}, {"ms": "burns on"}])
    case = shown.cases["offloop"]
    case.fail("hangs", "the last line", ["ms"])
    verdict = goal.judge(shown, STANDARD)
    assert (verdict.reached, verdict.ours) == (None, None)
    assert verdict.words == {"offloop": "hangs", "slow": "burns on"}
    assert shown.value("offloop", RATE) == 7
    assert case.cells["ms"].samples == [1]
    line = report.case_line(shown, "offloop")
    assert line.startswith("[bold]row[/] offloop, 0.0 s: calls 7 1/s ")
    assert "hangs: the last line" in line


def test_turn_leaves_no_process_behind(tmp_path):
    script = """if True:
        left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(f'{{"pid": {left.pid}}}', flush=True)
        sys.stdin.read()
    """
    with turn(tmp_path, script) as one:
        first = one.start(one.child())
        left = first.answer()["pid"]
        assert is_alive(left)
        assert is_alive(first.pid)
    assert not is_alive(left)
    assert not is_alive(first.pid)


def test_process_that_says_nothing_more_has_failed_with_its_last_words(tmp_path):
    script = """print('{"ms": 1}', flush=True); sys.exit("no more of this")"""
    with turn(tmp_path, script) as one:
        first = one.start(one.child())
        assert first.answer() == {"ms": 1}
        with pytest.raises(Failure, match="failed"):
            first.answer()
        assert one.last_words() == "no more of this"


def test_samples_stay_when_the_process_dies(tmp_path):
    script = """open(sys.argv[1], "w").write('{"ms": 5}\\n{"ms": 6}\\n')
os._exit(1)"""
    with turn(tmp_path, script) as one, pytest.raises(Failure, match="failed"):
        one.sample()
    assert one.cells["ms"].samples == [5, 6]


def test_process_without_an_end_hangs_and_is_killed(tmp_path):
    script = """open(sys.argv[1], "w").write(f'{{"pid": {os.getpid()}}}\\n')
while True: pass"""
    with turn(tmp_path, script, bound_s=2.0) as one, pytest.raises(Failure, match="hangs"):
        one.sample()
    assert not is_alive(int(one.cells["pid"].samples[0]))


def bench(name, output, *words):
    """Run a benchmark, and return what it wrote."""
    copy = output / "copy.json"
    command = [sys.executable, "-m", f"bench.{name}", "--quick", *words]
    done = subprocess.run(
        [*command, "--output", output, "--json", copy],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert copy.read_text() == (output / "results.json").read_text()
    return json.loads(copy.read_text())


def test_rows_of_one_process_have_a_number_for_each_turn_and_are_judged(tmp_path):
    rows = {
        "call-soon-chain": "call_soon, a chain",
        "timers-cancel": "timers scheduled and cancelled",
    }
    run = bench("loop", tmp_path, "--only", ",".join(rows), "--loops", "offloop,asyncio")
    assert (run["quick"], run["planned"]) == (True, 4)
    assert list(run["rows"]) == list(rows)
    for row in run["rows"].values():
        assert list(row) == ["offloop", "asyncio"]
        for case in row.values():
            assert case["status"] == "ok"
            assert len(case["cells"]["ns"]["samples"]) == 2
    assert [(verdict["row"], verdict["what"]) for verdict in run["verdicts"]] == list(rows.items())
    for verdict in run["verdicts"]:
        ratio = verdict["ours"] / verdict["peers"]["asyncio"]
        assert verdict["ratios"] == {"asyncio": ratio}
        assert verdict["reached"] is (ratio <= 0.85)
    assert "timers scheduled and cancelled" in (tmp_path / "results.md").read_text()


def test_row_of_a_server_has_the_clients_numbers_beside_the_floor(tmp_path):
    chosen = ("--only", "echo-protocol-1k-w*", "--loops", "offloop,C", "--rounds", "1")
    run = bench("loop", tmp_path, *chosen)
    row = run["rows"]["echo-protocol-1k-warm"]
    assert list(row) == ["offloop", "C"]
    for case in row.values():
        assert (case["status"], case["error"]) == ("ok", "")
        samples = {key: len(cell["samples"]) for key, cell in case["cells"].items()}
        assert samples == dict.fromkeys(CLIENT_NUMBERS, 1)
    for verdict in run["verdicts"]:
        assert verdict["standard"][0] == "C"
        assert verdict["best"] is None, "the floor is no contender's peer"
        assert isinstance(verdict["reached"], bool)


def test_rows_of_pools_have_samples_of_each_entrance_and_peer(tmp_path):
    peers = ["offloop-adopted", "ppe-forkserver"]
    run = bench("pools", tmp_path, "--only", "cold,per-*", "--peers", ",".join(peers))
    assert list(run["rows"]) == ["cold", "per-request"]
    for row in run["rows"].values():
        assert list(row) == peers
        assert {(case["status"], case["error"]) for case in row.values()} == {("ok", "")}
    cold, requests = run["rows"]["cold"], run["rows"]["per-request"]
    for name in peers:
        assert len(cold[name]["cells"]["first_ms"]["samples"]) == 3, "a process for each"
        assert len(requests[name]["cells"]["request_ms"]["samples"]) == 10
    judged = {verdict["entrance"]: verdict for verdict in run["verdicts"]}
    adopted = judged["offloop-adopted"]
    assert adopted["standard"][0] == "ppe-forkserver"
    assert adopted["reached"] is (adopted["ours"] <= 2)
    assert judged["offloop-pool"]["reached"] is None, "an entrance that was not asked"


def test_row_of_a_stall_tells_when_a_tool_speaks_and_of_which_line(tmp_path):
    tools = ["asyncio-debug", "faulthandler"]
    chosen = ("--only", "stall-native,causes,idle", "--tools", ",".join(tools), "--rounds", "2")
    run = bench("watch", tmp_path, *chosen)
    assert list(run["rows"]) == ["stall-native", "idle"], "these tools name no causes"
    debug, dump = (run["rows"]["stall-native"][name] for name in tools)
    assert [(case["status"], case["error"]) for case in (debug, dump)] == [("ok", "")] * 2
    for case in (debug, dump):
        assert case["cells"]["found"]["samples"] == [100, 100]
    assert debug["cells"]["line"]["samples"] == [0, 0]
    assert dump["cells"]["line"]["samples"] == [100, 100]
    # The debug mode speaks when the stall is over, 300 ms after it began.
    assert min(debug["cells"]["late_ms"]["samples"]) >= 250
    assert len(dump["cells"]["late_ms"]["samples"]) == 2
    assert debug["cells"]["error_ms"]["note"] is None
    assert dump["cells"]["error_ms"]["note"] == "not told"
    for name in tools:
        assert len(run["rows"]["idle"][name]["cells"]["wake_ups"]["samples"]) == 2
    assert {verdict["reached"] for verdict in run["verdicts"]} == {None}, "ours was not asked"


def test_service_under_load_serves_as_long_as_the_command_line_says(tmp_path):
    chosen = ("--only", "healthy", "--tools", "asyncio-debug", "--minutes", "0.01")
    cells = bench("watch", tmp_path, *chosen)["rows"]["healthy"]["asyncio-debug"]["cells"]
    assert 0.6 <= cells["seconds"]["samples"][0] < 3, "the quick form has 3 s"
    assert {key: len(cell["samples"]) for key, cell in cells.items()} == dict.fromkeys(
        ("false", "pauses", "seconds"), 1
    )


@pytest.mark.parametrize("name", ["loop", "pools", "watch"])
def test_unknown_row_is_refused_with_its_name(name):
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--only", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 2
    assert "unknown: nonsense" in done.stderr
