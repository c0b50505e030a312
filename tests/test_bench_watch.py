"""The watch's benchmark: what reports are worth, how tools are heard, and that stalls stall."""

import asyncio
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import offloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.watch import stalls  # noqa: E402
from bench.watch.reports import (  # noqa: E402
    Report,
    Truth,
    blamed,
    cause_numbers,
    stall_numbers,
)
from bench.watch.watchers import own  # noqa: E402
from bench.watch.watchers.standard import DebugMode  # noqa: E402
from bench.watch.watchers.third_party import (  # noqa: E402
    Aiocop,
    Asynclens,
    Pyleak,
    causes_of,
)

SECONDS_MAX = 50

TRUTH = Truth("lock", 10.0, 10.3, "/project/stalling.py", frozenset({7, 8}))


def report(at=10.06, stall=1, **more):
    """A report of the stall, unless it is said otherwise."""
    return Report(stall, at, **more)


def test_tool_that_says_nothing_has_found_nothing():
    assert stall_numbers(TRUTH, [report(at=9.9)]) == {"found": 0, "line": 0}
    assert cause_numbers(TRUTH, []) == {"said": "misses it", "right": 0}


def test_first_report_counts_for_the_moment_and_the_last_for_the_duration():
    first = report(places=(("/project/main.py", 1), ("/project/stalling.py", 7)), seconds=0.06)
    last = report(at=10.301, seconds=0.298)
    numbers = stall_numbers(TRUTH, [last, first])
    assert (numbers["found"], numbers["line"]) == (100, 100)
    assert numbers["late_ms"] == pytest.approx(10)
    assert numbers["error_ms"] == pytest.approx(2)


def test_durations_of_several_parts_add_up():
    parts = [report(stall=1, seconds=0.1), report(stall=2, seconds=0.1)]
    assert stall_numbers(TRUTH, parts)["error_ms"] == pytest.approx(100)


@pytest.mark.parametrize(
    "places",
    [
        (),
        (("/project/stalling.py", 9),),
        (("/project/stalling.py", 7), ("/project/stalling.py", 20)),
        (("/project/main.py", 7),),
    ],
    ids=["none", "another", "another as well", "of another file"],
)
def test_other_lines_are_not_the_exact_one(places):
    numbers = stall_numbers(TRUTH, [report(places=places)])
    assert (numbers["found"], numbers["line"], numbers["error_ms"]) == (100, 0, "not told")


def test_path_may_be_shortened():
    assert stall_numbers(TRUTH, [report(places=(("stalling.py", 8),))])["line"] == 100


def test_refused_call_has_neither_moment_nor_duration():
    numbers = stall_numbers(TRUTH, [report(refuses=True, seconds=0.3)])
    assert (numbers["late_ms"], numbers["error_ms"]) == ("refuses it", "refuses it")


def test_first_cause_that_is_named_counts():
    named = report(at=10.1, said="blocked", causes=frozenset({"lock", "socket"}))
    later = report(at=10.2, said="sleeps", causes=frozenset({"sleep"}))
    assert cause_numbers(TRUTH, [later, report(), named]) == {"said": "blocked", "right": 1}
    assert cause_numbers(TRUTH, [later]) == {"said": "sleeps", "right": 0}
    assert cause_numbers(TRUTH, [report()]) == {"said": "names none", "right": 0}


def test_stall_is_blamed_once_and_starving_blames_no_code():
    reports = [report(), report(at=10.3), report(stall=2), report(stall=3, blames=False)]
    assert blamed(reports, 10.0) == 2
    assert blamed(reports, 10.2) == 1


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        ("time.sleep(0.3)", "sleep"),
        ("socket.socket.recv", "socket"),
        ("lock.acquire", "lock"),
        ("subprocess.Popen", "child"),
        ("os.posix_spawn", "child"),
        ("os.read", "file"),
        ("open(path)", "file"),
    ],
)
def test_name_of_a_blocking_function_is_a_cause(call, cause):
    assert causes_of(call) == {cause}


def test_unknown_function_is_no_cause():
    assert causes_of("builtins.input") == frozenset()


def test_debug_mode_is_understood():
    tool = DebugMode()
    tool._hear(
        10.3,
        "Executing <Task pending name='Task-8' coro=<main() running at /project/main.py:31> "
        "wait_for=<Future pending created at /lib/base_events.py:460>> took 0.301 seconds",
    )
    tool._hear(10.4, "Using selector: EpollSelector")
    (one,) = tool.reports
    assert (one.at, one.places, one.seconds) == (10.3, (("/project/main.py", 31),), 0.301)


def test_pyleak_is_understood():
    tool = Pyleak()
    tool._hear(10.05, "Event loop blocked for 0.050s (threshold: 0.050s)")
    tool._hear(10.6, "Detected 1 event loop blocks")
    tool._hear(
        10.6,
        "Event Loop Block: block-1\n  Duration: 0.251s (threshold: 0.050s)\n  Timestamp: 1.6\n"
        '  Blocking Stack:\n    File "/project/stalling.py", line 7, in stall\n        nap()',
    )
    tool._hear(10.6, "Event loop monitoring summary: 1 block(s), 0.25s total blocked time")
    assert tool.reports == [
        Report(1, 10.05),
        Report(1, 10.6, (("/project/stalling.py", 7),), 0.251),
    ]


def test_asynclens_is_understood():
    tool = Asynclens()
    entry = "\n  1:2 (MainThread) - /project/stalling.py l. 7 in `stall` - nap()"
    tool._hear(10.05, f"[AsyncLens] Loop blocked!{entry}")
    tool._hear(10.3, f"[AsyncLens] Loop released! (Blocked for 251ms){entry}")
    places = (("/project/stalling.py", 7),)
    assert tool.reports == [Report(1, 10.05, places), Report(1, 10.3, places, 0.251)]


def aiocop_event(**more):
    """What aiocop hands to its callback."""
    fields = {"exceeded_threshold": True, "elapsed_ms": 300.0, "reason": "cpu_blocking"}
    return types.SimpleNamespace(
        **{**fields, "blocking_events": [], "cpu_stack_samples": [], **more}
    )


def test_aiocop_is_understood():
    tool = Aiocop()
    trace = "/project/stalling.py:7:stall <- events.py:89:_run"
    calls = [
        {"event": "os.stat(x)", "trace": "/project/main.py:1:main", "severity": 1},
        {"event": "time.sleep(0.3)", "trace": trace, "severity": 50},
    ]
    tool._hear(aiocop_event(exceeded_threshold=False))
    tool._hear(aiocop_event(reason="io_blocking", blocking_events=calls))
    tool._hear(aiocop_event(cpu_stack_samples=[{"trace": trace, "count": 3}]))
    tool._hear(aiocop_event())
    sleeps, computes, nowhere = tool.reports
    places = (("/project/stalling.py", 7), ("events.py", 89))
    assert (sleeps.places, sleeps.said, sleeps.causes) == (places, "time.sleep", {"sleep"})
    assert (computes.places, computes.said, computes.seconds) == (places, "cpu_blocking", 0.3)
    assert computes.causes == {"python", "native", "native-without-gil"}
    assert nowhere.places == ()


def stall_of_ours(**more):
    """What our watch hands to its callback."""
    entry = types.SimpleNamespace(filename="/project/stalling.py", lineno=7, function="stall")
    cause = types.SimpleNamespace(value=more.pop("cause", "lock"))
    fields = {"started": 10.0, "reported": 10.05, "duration": None, "stack": [entry]}
    return types.SimpleNamespace(**{**fields, "cause": cause, **more})


def test_own_watch_is_believed_when_it_was_seen(monkeypatch):
    def watch(threshold, on_stall):
        assert threshold == 0.05
        os.write(2, b"blocked\n")
        for stall in (stall_of_ours(), stall_of_ours(duration=0.3)):
            on_stall(stall)
        # Later than anything that is shown here.
        on_stall(stall_of_ours(started=1e12, reported=2e12, cause="starved"))

    monkeypatch.setattr(offloop, "watch", watch, raising=False)
    watcher = own.Own()
    with asyncio.Runner(loop_factory=watcher.new_loop) as runner:
        assert isinstance(runner.get_loop(), offloop.EventLoop)
        runner.run(watcher.start())
    watcher.finish()
    found, over, starved = watcher.reports
    assert found.at == over.at > 10.05, "the line was written long after that moment"
    assert (found.places, found.said) == ((("/project/stalling.py", 7),), "lock")
    assert (found.seconds, over.seconds, found.stall) == (None, 0.3, over.stall)
    assert (starved.at, starved.blames, found.blames) == (2e12, False, True)


def test_build_without_the_watch_is_told(monkeypatch):
    monkeypatch.setattr(offloop, "watch", print, raising=False)
    assert own.absence() is None
    monkeypatch.delattr(offloop, "watch")
    assert own.absence() == "this build of offloop has no watch"


@pytest.mark.parametrize("cause", stalls.CAUSES)
def test_stall_of_each_cause_is_one(cause):
    command = [sys.executable, "-m", "bench.child", "watch", "causes", "asyncio-debug", cause]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=True
    )
    assert json.loads(done.stdout) == {"said": "names none", "right": 0}, "it names no causes"


def test_line_of_a_stall_is_the_marked_one():
    for prepare in (stalls.CAUSES["sleep"], stalls.CAUSES["python"]):
        stall = prepare()
        source = Path(stalls.__file__).read_text().splitlines()
        marked = [source[line - 1].strip() for line in sorted(stalls.lines_of(stall))]
        assert len(marked) in (1, 2)
        assert all(line.endswith("# The stall.") for line in marked)
