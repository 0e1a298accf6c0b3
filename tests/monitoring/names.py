"""What the metrics, the rules and the dashboard are called, for the tests that hold them against each other."""

import re
from typing import Any

from benchmarks.monitoring import panels, prometheus
from serving.fleet.supervisor import RESTARTS
from serving.telemetry import container, gpu
from serving.telemetry.instruments import Family
from serving.telemetry.metrics import Metrics

SUFFIXES = re.compile(r"_(bucket|sum|count)$")

GPU_LABELS = dict.fromkeys(gpu.METRICS, ("gpu",)) | {gpu.INFO: ("gpu", "uuid", "name")}


def ours() -> dict[str, tuple[str, ...]]:
    """Every metric of the server's own, and its labels."""
    families = [value for value in vars(Metrics()).values() if isinstance(value, Family)]
    found = {family.name: tuple(family.label_names) for family in families}
    return found | GPU_LABELS | {container.NAME: (), RESTARTS: ()}


def expressions() -> list[str]:
    """Every expression of the dashboard and the rules."""
    return [query.expression for query in panels.queries()] + [one["expr"] for one in rules()]


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    return [rule for group in prometheus.rules()["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for rule in rules() if "alert" in rule]


def used(expression: str) -> set[str]:
    """The metrics of servers that an expression asks for."""
    names = re.findall(r"\b(?<!:)(?:triptych|process)_[a-z_]+", expression)
    return {SUFFIXES.sub("", name) for name in names}
