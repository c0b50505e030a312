"""The loop's benchmark: its short form on cheap rows, and the fields of what it writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 170
"""The client is built for the rows of servers, on a machine that may be busy."""

CLIENT_NUMBERS = ("requests_per_s", "server_cpu_us", "p50_us", "p99_us", "client_cpu_us")

pytestmark = pytest.mark.timeout(SECONDS_MAX + 10)


def bench(output, *words):
    """Run the benchmark, and return what it wrote."""
    copy = output / "copy.json"
    command = [sys.executable, "-m", "bench.loop", "--quick", *words]
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
    run = bench(tmp_path, "--only", ",".join(rows), "--loops", "offloop,asyncio")
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
    run = bench(tmp_path, "--only", "echo-protocol-1k-w*", "--loops", "offloop,C", "--rounds", "1")
    row = run["rows"]["echo-protocol-1k-warm"]
    assert list(row) == ["offloop", "C"]
    for case in row.values():
        assert (case["status"], case["error"]) == ("ok", "")
        samples = {key: len(cell["samples"]) for key, cell in case["cells"].items()}
        assert samples == dict.fromkeys(CLIENT_NUMBERS, 1)
    for verdict in run["verdicts"]:
        assert verdict["standard"][0] == "C"
        assert verdict["best"] is None, "the floor is nobody's peer"
        assert isinstance(verdict["reached"], bool)


def test_unknown_row_is_refused_with_its_name(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.loop", "--only", "call-soon-chain,nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 2
    assert "unknown: nonsense" in done.stderr
