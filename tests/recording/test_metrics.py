"""The metrics are what Prometheus' own parser reads, are true, and are all described."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import offloop
from calls import exit_at_once
from offloop._metrics import _OWN_LABELS

pytestmark = pytest.mark.quick

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def read() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Each sample by its name and labels."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(offloop.metrics())
        for sample in family.samples
    }


def test_every_metric_has_help_and_a_kind_and_stands_in_the_page():
    described = PAGE.read_text()
    families = list(text_string_to_metric_families(offloop.metrics()))
    assert len(families) > 15
    for family in families:
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}" in described, name


def test_labels_stand_at_every_sample():
    labels = {"worker": "7", "_path": 'a "b"\\ c\nd {e} caf\udce9'}
    found = list(text_string_to_metric_families(offloop.metrics(labels=labels)))
    plain = list(text_string_to_metric_families(offloop.metrics()))
    own = set()
    expected = {"worker": "7", "_path": 'a "b"\\ c\nd {e} caf\ufffd'}
    assert [family.documentation for family in found] == [one.documentation for one in plain]
    for family, of_plain in zip(found, plain, strict=True):
        assert len(family.samples) == len(of_plain.samples) > 0
        for sample, one in zip(family.samples, of_plain.samples, strict=True):
            assert (sample.name, sample.labels) == (one.name, {**expected, **one.labels})
            own |= one.labels.keys()
    assert own == set(_OWN_LABELS)
    assert offloop.metrics(labels={}).count("\n") == offloop.metrics().count("\n")


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        ({"a-b": "1"}, ValueError, "'a-b' is no name of a label of Prometheus"),
        ({"": "1"}, ValueError, "'' is no name of a label"),
        ({"1a": "1"}, ValueError, "'1a' is no name of a label"),
        ({"__a": "1"}, ValueError, "'__a' is no name of a label"),
        ({"größe": "1"}, ValueError, "'größe' is no name of a label"),
        ({"a\n": "1"}, ValueError, "is no name of a label"),
        ({"le": "1"}, ValueError, "samples have a label 'le' of their own"),
        ({"state": "1"}, ValueError, "samples have a label 'state' of their own"),
        ({"pid": 1}, TypeError, "labels must be texts, not 'pid': 1"),
        ({1: "1"}, TypeError, "labels must be texts, not 1: '1'"),
    ],
)
def test_what_is_no_label_is_refused(labels, error, said):
    with pytest.raises(error, match=said):
        offloop.metrics(labels=labels)


def test_calls_and_crashes_are_counted():
    before = read()
    with offloop.ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        with pytest.raises(offloop.WorkerCrashed):
            pool.submit(exit_at_once).result()
        assert read()["offloop_calls_submitted_total", ()] >= 2
    after = read()

    def grown(name: str, label: str, value: str) -> float:
        key = (name, ((label, value),))
        return after[key] - before[key]

    assert grown("offloop_calls_ended_total", "outcome", "completed") == 1
    assert grown("offloop_calls_ended_total", "outcome", "crashed") == 1
    assert grown("offloop_worker_events_total", "event", "crash") == 1


@pytest.mark.parametrize("factory", [offloop.EventLoop, asyncio.SelectorEventLoop])
def test_load_and_lag_grow_with_a_loop_and_stay_when_it_is_gone(factory):
    offloop.watch()
    try:
        before = read()
        with asyncio.Runner(loop_factory=factory) as runner:
            # What a loop does is published after 50 ms, or when an own loop stops.
            for _ in range(3):
                runner.run(asyncio.sleep(0.06))
        after = read()
    finally:
        offloop.watch.stop()
    for name in ("running_seconds_total", "lag_seconds_count", "busy_seconds_total"):
        key = (f"offloop_loop_{name}", ())
        assert after[key] > before[key], name
    buckets = [
        value for (name, _), value in after.items() if name == "offloop_loop_lag_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after["offloop_loop_lag_seconds_count", ()]


def test_a_program_that_has_made_nothing_has_metrics():
    code = "import offloop; print(offloop.metrics())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (0, "")
    families = list(text_string_to_metric_families(ended.stdout))
    assert all(sample.value == 0 for family in families for sample in family.samples)
