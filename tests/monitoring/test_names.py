"""The dashboard and the alerts ask for what the server has, and the pages say what there is."""

import re
import urllib.request

import pytest

from tests.end_to_end.server import ROOT, ServerProcess
from tests.monitoring.names import alerts, expressions, ours, used

GUIDE = (ROOT / "docs/observability.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")

ELSEWHERE = {name for name in ours() if "gpu" in name} | {
    "triptych_worker_restarts_total",
    "triptych_memory_limit_bytes",
}
"""Shown only where there is a GPU, where there are several workers, where there is a limit."""


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """The names of all metrics of a real server."""
    with ServerProcess() as server:
        server.wait_ready()
        with urllib.request.urlopen(server.metrics, timeout=10) as answer:
            return set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.M))


def test_every_metric_that_is_asked_for_is_shown_by_a_real_server(shown: set[str]) -> None:
    asked = set().union(*map(used, expressions()))
    assert len(asked) > 20
    assert asked - ELSEWHERE - shown == set()


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    assert ours().keys() - set().union(*map(used, expressions())) <= {"triptych_device_info", "triptych_gpu_info"}


def test_labels_that_are_asked_for_exist() -> None:
    known = {label for labels in ours().values() for label in labels}
    known |= {"job", "instance", "namespace", "le", "alertname", "alertstate", "severity"}
    for expression in expressions():
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        matched = re.findall(r"([a-z_]+)\s*(?:=~|!=|=)\s*\"", expression)
        assert {label.strip() for each in grouped for label in each.split(",")} | set(matched) <= known, expression


def test_the_page_has_every_metric_and_its_labels() -> None:
    section = GUIDE.partition("## Metrics\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    table = {cells[0].strip(" `"): tuple(filter(None, cells[1].strip().split(", "))) for cells in rows}
    assert table == ours()


def test_the_page_has_every_alert_with_its_severities_and_a_link() -> None:
    found = re.findall(r"^\| \[(\w+)\]\(runbook\.md#(\w+)\) \| ([\w, ]+) \|", GUIDE, re.M)
    severities: dict[str, set[str]] = {}
    for one in alerts():
        severities.setdefault(one["alert"], set()).add(one["labels"]["severity"])
    assert {name: set(said.split(", ")) for name, _, said in found} == severities
    assert all(anchor == name.lower() for name, anchor, _ in found)


def test_every_alert_has_its_section_in_the_runbook_and_says_so() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.M)
    assert sorted(sections) == sorted({one["alert"] for one in alerts()})
    for one in alerts():
        assert one["annotations"]["runbook"] == f"docs/runbook.md#{one['alert'].lower()}"
        assert one["labels"]["severity"] in ("page", "ticket")
        assert one["annotations"]["summary"].endswith(".")


def test_events_that_the_runbook_quotes_are_logged() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "serving").rglob("*.py"))
    for event in re.findall(r"[Ll]og `([^`]+)`", RUNBOOK):
        assert f'"{event}"' in sources or f'"%s {event.partition(" ")[2]}"' in sources, event


def test_links_within_the_pages_lead_to_headings() -> None:
    for page in (GUIDE, RUNBOOK):
        for file, anchor in re.findall(r"\]\(([\w-]+\.md)?#([\w-]+)\)", page):
            text = (ROOT / "docs" / file).read_text("utf-8") if file else page
            headings = {
                re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in text.splitlines()
                if line.startswith("#")
            }
            assert anchor in headings, (file, anchor)
