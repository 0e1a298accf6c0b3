"""The alerts: promtool's own tests of when each fires and when not, and a real Prometheus that takes them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.monitoring import check, panels
from benchmarks.monitoring.fault import Fault
from benchmarks.monitoring.prometheus import hastened, missing, prometheus, rules
from benchmarks.monitoring.stage import wait_for
from tests.end_to_end.server import ServerProcess
from tests.monitoring.names import alerts

TESTS = Path(__file__).with_name("rules_test.yaml")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)")
needs_prometheus = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The rules as Prometheus reads them, and promtool's tests beside them."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules(), width=1000))
    shutil.copy(TESTS, tmp_path)
    return tmp_path


def promtool(*arguments: str, folder: Path) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_promtool_takes_the_rules(written: Path) -> None:
    assert f"{len(alerts()) + 4} rules found" in promtool("check", "rules", "rules.yaml", folder=written)


@needs_promtool
def test_every_alert_fires_when_it_should_and_only_then(written: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", TESTS.name, folder=written)


@needs_promtool
def test_promtools_tests_can_fail(written: Path) -> None:
    text = (written / "rules.yaml").read_text()
    (written / "rules.yaml").write_text(text.replace("> 0.01", "> 0.1"))
    with pytest.raises(AssertionError, match="TriptychOverloaded"):
        promtool("test", "rules", TESTS.name, folder=written)


def test_every_alert_is_tested_both_firing_and_not() -> None:
    tried = [one for test in yaml.safe_load(TESTS.read_text())["tests"] for one in test["alert_rule_test"]]
    fires = {(one["alertname"], each["exp_labels"]["severity"]) for one in tried for each in one["exp_alerts"]}
    silent = {one["alertname"] for one in tried if not one["exp_alerts"]}
    assert fires == {(one["alert"], one["labels"]["severity"]) for one in alerts()}
    assert silent == {one["alert"] for one in alerts()}


def test_haste_divides_windows_and_patience_and_leaves_limits_alone() -> None:
    rule = {"alert": "A", "expr": "rate(a[5m]) / rate(b[6h]) > 0.5 and c[30s] < 86400", "for": "15m"}
    (found,) = hastened({"groups": [{"name": "g", "rules": [rule]}]}, 60)["groups"][0]["rules"]
    assert found == {"alert": "A", "expr": "rate(a[5s]) / rate(b[360s]) > 0.5 and c[1s] < 86400", "for": "15s"}


@needs_prometheus
def test_a_real_prometheus_scrapes_a_server_and_evaluates_rules_and_panels() -> None:
    with ServerProcess() as server, prometheus(hastened(rules())) as watcher:
        server.wait_ready()
        watcher.watch({server.metrics.split("/")[2]: {"namespace": "test"}})
        assert wait_for(lambda: watcher.query('up{job="triptych"} == 1'), 20)
        assert wait_for(lambda: watcher.query("triptych_model_info"), 5)

        def evaluated() -> list[dict[str, Any]]:
            groups: list[dict[str, Any]] = watcher.get("rules")["groups"]
            return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

        assert wait_for(lambda: len(evaluated()) == len(alerts()) + 4, 10)
        assert [rule for rule in evaluated() if rule["health"] != "ok"] == []
        served = 'sum by (instance, model, version, provider, task) (triptych_model_info{job=~".*"})'
        assert len(watcher.query(served)) == 3
        for panel in panels.queries("5s"):
            watcher.query(panel.expression)  # raises where Prometheus can't make sense of it


def test_the_record_says_of_every_alert_how_it_was_made_or_why_not() -> None:
    rows = [
        check._Alert(Fault((), "made", "mended", lambda: None, lambda: None, ""), one["alert"], "ticket").row()
        for one in alerts()
    ]
    summary = {"calm": [], "alerts": rows, "besides": [], "not_made": check.NOT_MADE, "panels": {"a": 1, "b": 0}}
    record = {"settings": {"haste": 60, "servers": 1, "calm_seconds": 1.0}, "summary": summary}
    told, shown = check.tables(record)
    assert len(told.rows) == len(alerts()) + len(check.NOT_MADE)
    assert shown.rows == [[2, 1]]
