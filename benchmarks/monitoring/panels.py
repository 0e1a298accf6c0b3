"""The queries of the dashboard, with its variables filled in."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.monitoring.prometheus import OVERLAY

VARIABLES = ("job", "namespace", "instance", "model", "version")


class PanelQuery(NamedTuple):
    """One query of a panel."""

    panel: str
    """The row's title and its own."""
    expression: str
    legend: str


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads((OVERLAY / "dashboard.json").read_text("utf-8"))
    return found


def queries(rate: str = "5m") -> Iterator[PanelQuery]:
    """Every query, as Grafana sends it where everything is chosen; `rate` is the window that it works out itself."""
    row = ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", ()):
            yield PanelQuery(f"{row} / {panel['title']}", filled(target["expr"], rate), target.get("legendFormat", ""))


def filled(expression: str, rate: str) -> str:
    """An expression without variables."""
    for variable in VARIABLES:
        expression = expression.replace(f'"${variable}"', '".*"')
    return expression.replace("$__rate_interval", rate)
