"""The dashboard for ``offloop.metrics()`` names metrics and labels that there are."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import offloop

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "offloop-metrics.json"
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus adds when it reads a target, and that of a histogram's buckets."""


@pytest.fixture(scope="module")
def told():
    """The labels of each name that the process tells."""
    with offloop.ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        families = list(text_string_to_metric_families(offloop.metrics()))
    labels = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.fixture(scope="module")
def expressions():
    """Every query of the dashboard, by the title of its panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [(one["title"], target["expr"]) for one in panels for target in one.get("targets", [])]
    assert len(found) >= len(panels)
    return found


def test_every_metric_named_is_told(told, expressions):
    for title, expression in expressions:
        series = set(re.findall(r"\boffloop_\w+(?=\{)", expression))
        assert series, title
        assert series <= set(told), title


def test_every_label_named_is_told(told, expressions):
    known = set().union(*told.values()) | OF_PROMETHEUS
    for title, expression in expressions:
        chosen = re.findall(r"(\w+)=~?\"", expression)
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        labels = {*chosen, *(label for group in grouped for label in group.split(", "))}
        assert labels <= known, title
