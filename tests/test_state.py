"""The door to the runtime's state: snapshot and journal cross to Python by name."""

import dataclasses
import math
import os
import signal

import pytest

import calls
import offloop
from _offloop_worker import _offloop
from offloop import _state


def the_fleet(pid):
    """The number of the fleet that a worker belongs to, and the worker."""
    fleets = _state.snapshot().fleets
    [found] = [(fleet, one) for fleet in fleets for one in fleet.workers if one.pid == pid]
    return found


def of_fleet(number, events):
    """The events of one fleet."""
    return [event for event in events.events if event.fleet == number]


def test_snapshot_shows_which_worker_runs_a_call_and_what_waits(gate):
    before = _state.snapshot()
    with offloop.ProcessPool(1, max_tasks_per_child=1000) as pool:
        running = pool.submit(calls.hold, gate.paths)
        gate.wait_started()
        queued = pool.submit(abs, -1)
        [pid] = pool._processes
        fleet, worker = the_fleet(pid)
        assert (worker.state, worker.calls, fleet.queued) == ("busy", 1, 1)
        statistics = fleet.lanes[-1].statistics
        assert (statistics.running, statistics.queued, statistics.submitted) == (1, 1, 2)
        assert fleet.zygote_pid in _offloop.zygote_pids()
        assert fleet.broken is None
        gate.release()
        running.result(), queued.result()
        assert the_fleet(pid)[1].state == "idle"
    after = _state.snapshot()
    assert after.lanes_opened == before.lanes_opened + 1
    assert after.calls.completed == before.calls.completed + 2
    assert after.owners[0].index == 0
    assert after.arena.bytes_max > 0
    assert after.failed is None


def test_records_cannot_be_changed_and_sequences_are_tuples():
    with offloop.ProcessPool(1) as pool:
        pool.submit(abs, -1).result()
    seen = _state.snapshot()
    assert isinstance(seen.fleets, tuple)
    for record in (seen, seen.fleets[0], seen.calls, _state.events_after(0)):
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, 0)


def test_journal_tells_what_came_after_a_number():
    with offloop.ProcessPool(1, max_tasks_per_child=1001) as pool:
        first = pool.submit(os.getpid).result()
        number = the_fleet(first)[0].number
        last = _state.snapshot().last_event
        assert isinstance(pool.submit(os._exit, 3).exception(), offloop.WorkerCrashed)
        second = pool.submit(os.getpid).result()
        seen = _state.events_after(last)
    assert seen.missed == 0
    crash, restart = of_fleet(number, seen)
    assert (crash.kind, crash.pid, crash.in_call, crash.exit_code) == ("crash", first, True, 3)
    assert (crash.signal, crash.stderr_tail, crash.reason) == (None, "", None)
    assert (restart.kind, restart.pid, restart.replaces) == ("restart", second, first)
    assert restart.exit_code is None
    assert last < crash.number < restart.number
    assert crash.at_seconds <= restart.at_seconds
    assert _state.events_after(seen.events[-1].number + 1000).events == ()


def test_a_worker_that_its_pool_kills_ends_and_does_not_crash(gate):
    with offloop.ProcessPool(1, max_tasks_per_child=1002, grace=0.0) as pool:
        pid = pool.submit(os.getpid).result()
        number = the_fleet(pid)[0].number
        last = _state.snapshot().last_event
        future = pool.options(run_timeout=0.05).submit(calls.refuse_to_stop, gate.paths)
        assert isinstance(future.exception(), offloop.DeadlineExceeded)
        kinds = [event.kind for event in of_fleet(number, _state.events_after(last))]
    assert kinds == ["kill", "end"]


def test_functions_tell_what_became_of_their_calls(gate):
    def row():
        rows = {row.name: row for row in _state.function_statistics()}
        return rows.get("calls.hold") or _state.FunctionStatistics("", 0, 0.0, 0, 0, None, None)

    before = row()
    with offloop.ProcessPool(1, max_tasks_per_child=1003) as pool:
        held = pool.submit(calls.hold, gate.paths)
        gate.wait_started()
        pool.submit(calls.hold, gate.paths).cancel()
        [pid] = pool._processes
        os.kill(pid, signal.SIGKILL)
        assert isinstance(held.exception(), offloop.WorkerCrashed)
    after = row()
    counts = (after.crashes - before.crashes, after.stopped - before.stopped)
    assert (counts, after.calls - before.calls) == ((1, 1), 0)
    assert (after.last_signal, after.last_exit_code) == (signal.SIGKILL, None)
    assert after.ended == before.ended + 2


def test_a_fork_has_no_state_of_its_parent():
    with offloop.ProcessPool(1) as pool:
        pool.submit(abs, -1).result()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            seen = _state.snapshot()
            os.write(write, f"{seen.lanes_opened} {_state.events_after(0)}".encode())
            os._exit(0)
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0
        with open(read, "rb") as pipe:
            assert pipe.read() == b"0 Events(missed=0, events=())"


def test_recorded_lags_are_those_of_the_loops_own_histogram():
    recorder = _offloop.LagRecorder()
    for millis in range(1, 1001):
        recorder.record(millis / 1000)
    lag = offloop.LagHistogram(**recorder.fields())
    assert (lag.count, lag.max) == (1000, 1.0)
    assert lag.total == pytest.approx(500.5)
    for value, exact in ((lag.p50, 0.5), (lag.p90, 0.9), (lag.p99, 0.99)):
        assert exact <= value <= exact * 1.07
    assert sum(count for _, count in lag.buckets) == 1000
    for odd in (-1.0, math.nan, math.inf):
        recorder.record(odd)
    lag = offloop.LagHistogram(**recorder.fields())
    assert lag.count == 1003
    assert lag.buckets[0][1] == 2
    assert lag.buckets[-1] == (math.inf, 1)
