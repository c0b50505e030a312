"""Metrics of loops, calls and workers, by the real SDK and a reader of the test's own."""

import asyncio

import pytest
from http_served import THRESHOLD_SECONDS, Told, with_culprit
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import offloop
from gates import PATIENCE_SECONDS
from offloop.integrations._otel_metrics import RecentLag
from offloop.integrations.opentelemetry import instrument

UNITS = {
    "offloop.arena.usage": "By",
    "offloop.call.active": "{call}",
    "offloop.call.duration": "s",
    "offloop.calls": "{call}",
    "offloop.loop.callbacks": "{callback}",
    "offloop.loop.connections": "{connection}",
    "offloop.loop.lag": "s",
    "offloop.loop.time": "s",
    "offloop.loop.utilization": "1",
    "offloop.stall.duration": "s",
    "offloop.worker.events": "{event}",
    "offloop.workers": "{worker}",
}


@pytest.fixture
def reader():
    """A reader of metrics; loops, calls and stalls tell theirs."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with instrument(meter_provider=provider):
        yield reader
    provider.shutdown()


def read(reader):
    """Metrics by their names: their points."""
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    metrics = [metric for scope in scopes for metric in scope.metrics]
    assert {metric.name: metric.unit for metric in metrics}.items() <= UNITS.items()
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def values(points, name):
    """The values of points, by one attribute of theirs."""
    return {point.attributes[name]: point.value for point in points}


def run_watched(main):
    """Run a coroutine on a loop of ours while the watch is on."""
    with offloop.watch(THRESHOLD_SECONDS, words=False):
        return offloop.run(main)


def test_loop_tells_its_lag_and_its_time(reader):
    async def main():
        await asyncio.sleep(0.02)
        return await asyncio.to_thread(read, reader)

    found = run_watched(main())
    lags = values(found["offloop.loop.lag"], "offloop.loop.quantile")
    assert list(lags) == ["p50", "p90", "p99", "max"]
    assert 0 < lags["p50"] <= lags["p90"] <= lags["p99"] <= lags["max"]
    times = values(found["offloop.loop.time"], "offloop.loop.state")
    assert times["busy"] > 0
    assert times["idle"] > 0
    [utilization] = found["offloop.loop.utilization"]
    assert 0 < utilization.value <= 1
    assert found["offloop.loop.callbacks"][0].value > 0
    assert found["offloop.loop.connections"][0].value == 0


def test_loops_are_told_apart_and_forgotten(reader):
    async def main():
        await asyncio.sleep(0.01)
        return {point.attributes["offloop.loop.number"] for point in lag()}

    def lag():
        return read(reader).get("offloop.loop.lag", [])

    first, second = run_watched(main()), run_watched(main())
    assert (len(first), len(second), first & second) == (1, 1, set())
    assert lag() == []


def test_calls_and_workers_are_counted(reader):
    before = values(read(reader)["offloop.calls"], "offloop.call.outcome")
    with offloop.ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        found = read(reader)
        after = values(found["offloop.calls"], "offloop.call.outcome")
        assert after["completed"] - before["completed"] == 2
        assert sum(values(found["offloop.workers"], "offloop.worker.state").values()) >= 1
        events = values(found["offloop.worker.events"], "offloop.worker.event")
        assert events["start"] >= 1
        assert set(events) == {"start", "restart", "start_failure", "kill", "crash", "end"}
        active = values(found["offloop.call.active"], "offloop.call.state")
        assert set(active) == {"queued", "prefetched", "running"}
        assert found["offloop.arena.usage"][0].value >= 0


def test_durations_of_calls_are_a_histogram(reader, run_on):
    async def main():
        await offloop.to_thread(abs, -1)
        await offloop.to_process(abs, -1)
        with pytest.raises(ZeroDivisionError):
            await offloop.to_thread(divmod, 1, 0)

    run_on(main())
    points = read(reader)["offloop.call.duration"]
    counts = {tuple(sorted(point.attributes.values())): point.count for point in points}
    assert counts == {
        ("builtins.abs", "threads"): 1,
        ("builtins.abs", "processes"): 1,
        ("ZeroDivisionError", "builtins.divmod", "threads"): 1,
    }


def test_durations_of_stalls_are_a_histogram(reader, run_on):
    def blocked():
        told = Told()

        async def main():
            told.found("main").wait(PATIENCE_SECONDS)

        with offloop.watch(THRESHOLD_SECONDS, told, words=False):
            run_on(main())
            return told.wait("main", is_over=True)

    stall = with_culprit(blocked)
    points = read(reader)["offloop.stall.duration"]
    name = stall.culprit.function
    [point] = [one for one in points if one.attributes.get("code.function.name") == name]
    assert (point.count, point.max) == (1, stall.duration)
    assert point.attributes["offloop.stall.cause"] == stall.cause


def test_nothing_is_told_afterwards():
    reader = InMemoryMetricReader()
    with instrument(meter_provider=MeterProvider([reader])):
        pass
    assert reader.get_metrics_data() is None or read(reader) == {}


FIRST = offloop.LagHistogram(count=100, max=0.5, buckets=((0.001, 99), (1.0, 1)))
SECOND = offloop.LagHistogram(count=102, max=0.5, buckets=((0.001, 99), (0.01, 2), (1.0, 1)))
OF_FIRST = {"p50": 0.001, "p90": 0.001, "p99": 0.001, "max": 0.5}
OF_BOTH = {"p50": 0.001, "p90": 0.001, "p99": 0.01, "max": 0.5}
OF_SECOND = {"p50": 0.01, "p90": 0.01, "p99": 0.01, "max": 0.01}


def test_lag_is_that_of_about_the_last_minute():
    recent = RecentLag()
    assert dict(recent.read(FIRST, 1_000.0)) == OF_FIRST
    assert dict(recent.read(SECOND, 1_049.9)) == OF_BOTH
    assert dict(recent.read(SECOND, 1_060.0)) == OF_SECOND
    assert dict(recent.read(SECOND, 1_120.0)) == {}


def test_looks_of_lag_take_nothing_from_each_other():
    recent = RecentLag()
    assert dict(recent.read(FIRST, 1_000.0)) == dict(recent.read(FIRST, 1_000.0)) == OF_FIRST
    for seconds in range(1, 60):
        for reader in (0.0, 0.3):
            found = dict(recent.read(SECOND, 1_000.0 + seconds + reader))
            assert found == (OF_BOTH if seconds < 50 else OF_SECOND if seconds < 51 else {})
    for seconds in range(60, 10_000):
        dict(recent.read(SECOND, 1_000.0 + seconds / 10))
    assert len(recent._looks) < 60


def test_two_readers_of_a_loop_are_told_the_same():
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers)

    async def main():
        await asyncio.sleep(0.02)
        return [await asyncio.to_thread(read, reader) for reader in readers]

    with instrument(meter_provider=provider):
        for found in run_watched(main()):
            assert len(found["offloop.loop.lag"]) == 4
    provider.shutdown()


def test_meter_provider_counts_a_call_once(reader, run_on):
    provider = MeterProvider([other := InMemoryMetricReader()])
    # The spans are made already, and the metrics of the other provider are not.
    with instrument(meter_provider=provider):
        run_on(offloop.to_thread(abs, -1))
        with pytest.warns(RuntimeWarning, match="nothing is begun"):
            again = instrument(meter_provider=provider)
        run_on(offloop.to_thread(abs, -1))
        again.stop()
        run_on(offloop.to_thread(abs, -1))
        for each in (reader, other):
            [point] = read(each)["offloop.call.duration"]
            assert point.count == 3
    provider.shutdown()
