"""Every metric that a dashboard, the autoscaler or a page asks for is one that /metrics serves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.conftest import DEPLOY, ROOT
from tests.serve.conftest import Running

NAME = re.compile(r"\bpahi_(?!rt\b)\w+")
OF_PROMETHEUS = {"job", "instance", "le"}
FILES = [
    DEPLOY / "grafana" / "dashboard.json",
    DEPLOY / "kubernetes" / "components" / "autoscaling" / "scaledobject.yaml",
    ROOT / "docs" / "serve.md",
    ROOT / "docs" / "deploy.md",
]
DASHBOARD = json.loads(FILES[0].read_text())


@pytest.fixture(scope="module")
def served(bundles: tuple[Path, Path]) -> Iterator[dict[str, set[str]]]:
    """The labels of every sample after a picture; a metric without one stands under its family's name too."""
    with Running(*bundles) as service:
        assert service.client.draw(prompt="a cat").status == 200
        text = service.client("GET", "/metrics").body.decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
            if family.type == "histogram":  # the pages name the family
                found.setdefault(family.name, set()).update(sample.labels)
    yield found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_name_is_served(path: Path, served: dict[str, set[str]]) -> None:
    names = set(NAME.findall(path.read_text()))
    assert names and names <= served.keys(), names - served.keys()


def queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=panel["title"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
    ]


@pytest.mark.parametrize("query", queries())
def test_every_label_is_the_metric_s(query: str, served: dict[str, set[str]]) -> None:
    labels = set().union(*(served[name] for name in NAME.findall(query))) | OF_PROMETHEUS
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    selected = {label for braces in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)=", braces)}
    assert grouped | selected <= labels


def test_no_panel_covers_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_the_dashboard_shows_every_metric(served: dict[str, set[str]]) -> None:
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in served}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in NAME.findall(json.dumps(DASHBOARD))}
    # A counter is also served with the time at which it began.
    assert {name for name in families if f"{name}_total" not in families} == shown
