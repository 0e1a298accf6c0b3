"""What is on record of the last time that a real Prometheus watched: every alert fired and was resolved."""

import pytest

from benchmarks import results
from benchmarks.monitoring import check
from tests.monitoring.names import alerts

RECORD = results.load(check.NAME)

pytestmark = pytest.mark.skipif(RECORD is None, reason="monitoring has no results yet")

AGAIN = "there are newer ones: python -m benchmarks monitoring"


@pytest.fixture
def summary() -> dict:
    assert RECORD is not None
    return RECORD["summary"]


def test_every_alert_fired_and_was_resolved_or_could_not_be_had(summary: dict) -> None:
    fired = {
        (one["alert"], one["severity"]) for one in summary["alerts"] if one["fired"] and one["resolved"] is not None
    }
    wanted = {(one["alert"], one["labels"]["severity"]) for one in alerts()}
    assert {alert for alert in wanted if alert[0] not in summary["not_made"]} == fired, AGAIN
    assert summary["not_made"].items() <= check.NOT_MADE.items()


def test_nothing_fired_while_nothing_was_wrong_and_nothing_else_when_it_was(summary: dict) -> None:
    assert summary["calm"] == []
    assert summary["besides"] == []


def test_every_panel_had_data_that_can_have_some_without_a_gpu(summary: dict) -> None:
    assert [
        query for query, series in summary["panels"].items() if not series and not query.startswith("GPUs / ")
    ] == []
