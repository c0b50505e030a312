"""The dashboard for Grafana names metrics and labels that there are, by the real exporter."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from http_served import THRESHOLD_SECONDS, Told
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import offloop
from gates import PATIENCE_SECONDS
from offloop.integrations.opentelemetry import instrument

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "offloop.json"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds when it reads a target."""
WIDTH = 24


@pytest.fixture(scope="module")
def dashboard():
    """The dashboard."""
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def exported():
    """Samples of a program that has done a little of everything: the labels of each name."""
    told = Told()
    provider = MeterProvider([PrometheusMetricReader()])

    async def main():
        await asyncio.gather(offloop.to_process(abs, -1), offloop.to_thread(abs, -1))
        told.found("main").wait(PATIENCE_SECONDS)
        await asyncio.sleep(0)
        return await asyncio.to_thread(told.wait, "main", is_over=True)

    async def read():
        await asyncio.sleep(0.01)
        return await asyncio.to_thread(generate_latest, REGISTRY)

    with instrument(meter_provider=provider):
        with offloop.watch(THRESHOLD_SECONDS, told, words=False):
            offloop.run(main())
            text = offloop.run(read()).decode()
    provider.shutdown()
    families = text_string_to_metric_families(text)
    labels = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def expressions(dashboard):
    """Every query, with the title of its panel."""
    found = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(found) >= len(dashboard["panels"]) - 3
    return found


def test_every_metric_of_the_dashboard_exists(dashboard, exported):
    for title, expression in expressions(dashboard):
        names = set(re.findall(r"\boffloop_\w+(?=\{)", expression))
        assert names, title
        assert names <= set(exported), title


def test_every_metric_that_is_exported_is_in_the_dashboard_or_said_to_be_left_out(
    dashboard, exported
):
    used = {name for _, text in expressions(dashboard) for name in re.findall(r"offloop_\w+", text)}
    left_out = {name for name in exported if name.startswith("offloop_")} - used
    endings = ("_count", "_sum", "_bucket", "_created")
    assert {name for name in left_out if not name.endswith(endings)} == {"offloop_loop_utilization"}


def test_every_label_of_the_dashboard_exists(dashboard, exported):
    known = set().union(*exported.values()) | OF_PROMETHEUS
    for title, expression in expressions(dashboard):
        chosen = re.findall(r"(\w+)=~?\"", expression)
        grouped = re.findall(r"(?:by|without|ignoring) \(([^)]*)\)", expression)
        labels = {*chosen, *(label for group in grouped for label in group.split(", "))}
        assert labels <= known, title


def test_every_series_is_of_the_chosen_job_and_instance(dashboard):
    for title, expression in expressions(dashboard):
        series = re.findall(r"offloop_\w+\{([^}]*)\}", expression)
        assert all('job=~"$job", instance=~"$instance"' in labels for labels in series), title


def test_variables_find_a_service_on_any_loop(dashboard, exported):
    for variable in dashboard["templating"]["list"][1:]:
        (name,) = re.findall(r"offloop_\w+", variable["definition"])
        assert name in exported
        assert variable["query"]["query"] == variable["definition"]
        assert not name.startswith("offloop_loop_"), "those are of offloop's own loops"


def test_legends_name_labels_of_their_query(dashboard, exported):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(.*?\)", target["expr"]))))
            assert named <= (grouped or exported["offloop_loop_time_seconds_total"] | OF_PROMETHEUS)


def test_panels_are_described_and_stand_beside_each_other(dashboard):
    cells = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
