"""The dashboard is what its source makes, and what Grafana takes."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.monitoring.panels import VARIABLES, dashboard
from benchmarks.monitoring.prometheus import OVERLAY

WIDTH = 24
TYPES = {"row", "stat", "table", "timeseries"}


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return dashboard()


@pytest.fixture(scope="module")
def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_file_is_what_its_source_makes(tmp_path: Path) -> None:
    for file in OVERLAY.glob("*.py"):
        shutil.copy(file, tmp_path)
    subprocess.run([sys.executable, "-W", "error", tmp_path / "dashboard.py"], check=True, timeout=60)
    assert (tmp_path / "dashboard.json").read_text() == (OVERLAY / "dashboard.json").read_text()


def test_grafana_knows_its_shape(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] >= 39
    assert board["uid"] == "triptych"
    assert {panel["type"] for panel in board["panels"]} == TYPES
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_panels_fill_the_grid_and_none_covers_another(board: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH
        own = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & own, panel["title"]
        cells |= own
    assert len(cells) == WIDTH * (1 + max(y for _, y in cells))


def test_every_panel_asks_the_chosen_prometheus(panels: list[dict[str, Any]]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels:
        assert panel["datasource"] == chosen
        assert panel["targets"]
        assert all(target["datasource"] == chosen and target["expr"] for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_every_panel_says_what_it_is_for(panels: list[dict[str, Any]]) -> None:
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")


def test_variables_choose_and_all_of_them_are_used(board: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert [*variables] == ["datasource", *VARIABLES]
    for name in VARIABLES:
        # A label that no series has, such as a namespace outside of Kubernetes, must not empty the dashboard.
        assert variables[name]["allValue"] == ".*"
        assert variables[name]["current"]["value"] == "$__all"
    text = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    assert all(f"${name}" in text for name in VARIABLES)
