"""The check: servers with nothing wrong and no alert; then troubles, of which every alert tells; then none again."""

import time
from typing import Any

from benchmarks.monitoring import models, panels, processes
from benchmarks.monitoring.everyday import everyday
from benchmarks.monitoring.fault import Fault
from benchmarks.monitoring.prometheus import HASTE, Prometheus, hastened, missing, prometheus, rules
from benchmarks.monitoring.stage import Stage, stage, wait_for
from benchmarks.session import Session
from benchmarks.tables import Cell, Table

NAME = "monitoring"

_CALM_SECONDS = 20.0
"""Of everyday life, after which nothing may fire."""
_FIRE_SECONDS = 240.0
_RESOLVE_SECONDS = 240.0

RATE = "10s"
"""The window that Grafana would choose, at this interval."""

NOT_MADE = {
    "TriptychMemoryNearLimit": "needs a control group with a limit, which could not be made",
}
"""Alerts whose trouble can't be had here, and why. The tests with promtool have them all."""


def run(session: Session) -> dict[str, Any]:
    """Everyday life, every trouble, and everyday life again."""
    if reason := missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    with session.reporter.benchmark(NAME, 5), prometheus(hastened(rules())) as watcher, stage(watcher) as on:
        everyday(on)
        made = [trouble(on) for trouble in (*processes.TROUBLES, *models.TROUBLES)]
        troubles = [one for one in made if one is not None]
        session.reporter.step(f"{len(on.servers)} servers")
        time.sleep(_CALM_SECONDS)
        calm = sorted(watcher.firing())
        session.reporter.step(f"everyday life: {len(calm)} alerts fire {calm or ''}")
        found = [_Told(one) for one in troubles]
        _make(watcher, found)
        expected = {(*alert.key, one.fault.namespace) for one in found for alert in one.alerts}
        besides = sorted(watcher.firing_in() - expected)
        session.reporter.step(f"troubles made: {sum(one.fired is not None for one in _all(found))} alerts fire")
        shown = _panels(watcher)
        empty = [panel for panel, series in shown.items() if not series]
        session.reporter.step(f"{len(shown)} queries of panels, {len(empty)} of them without data {empty or ''}")
        _mend(watcher, found)
        found.append(_Told(_down(on)))
        _make(watcher, found[-1:])
        _mend(watcher, found[-1:])
        session.reporter.step("all mended")
    rows = [one.row() for trouble in found for one in trouble.alerts]
    wanted = {rule["alert"] for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}
    return {
        "settings": {"haste": HASTE, "servers": len(on.servers), "calm_seconds": _CALM_SECONDS},
        "summary": {
            "calm": calm,
            "alerts": rows,
            "besides": besides,
            "not_made": {name: NOT_MADE[name] for name in wanted - {row["alert"] for row in rows}},
            "panels": shown,
        },
        "rounds": [{"round": 1, "alerts": rows}],
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """One for the alerts, one for the dashboard."""
    summary = record["summary"]
    if not summary:
        return [Table("Monitoring", ("",), [[f"skipped: {record['settings']['skipped']}"]])]
    rows: list[list[Cell]] = [
        [f"{one['alert']} ({one['severity']})", one["made"], one["fired"], one["mended"], _resolved(one)]
        for one in summary["alerts"]
    ]
    rows += [[name, f"not made: {why}", None, "", None] for name, why in sorted(summary["not_made"].items())]
    settings = record["settings"]
    note = (
        f"A real Prometheus scrapes {settings['servers']} servers every second; windows and patience of the rules are "
        f"divided by {settings['haste']}, limits are as they ship. Seconds from the trouble to the alert, and from its "
        f"end to the end of the alert. Before the first trouble, in {settings['calm_seconds']:.0f} s of everyday life, "
        f"{len(summary['calm'])} alerts fired. Besides those of the table there fired, while all troubles lasted: "
        f"{', '.join(f'{name} ({namespace})' for name, _, namespace in summary['besides']) or 'none'}."
    )
    shown = summary["panels"]
    empty = [panel for panel, series in shown.items() if not series]
    panel_note = (
        "Every query of the dashboard, sent to the same Prometheus while the troubles lasted. Those without data: "
        f"{', '.join(empty) or 'none'}."
    )
    return [
        Table("Alerts", ("alert", "trouble", "fires after, s", "mended by", "resolved after, s"), rows, note),
        Table("Dashboard", ("queries", "with data"), [[len(shown), len(shown) - len(empty)]], panel_note, labels=0),
    ]


def _resolved(one: dict[str, Any]) -> Cell:
    found: float | None = one["resolved"]
    return "before that" if one["by_itself"] else found


class _Alert:
    """What came of one alert."""

    def __init__(self, fault: Fault, name: str, severity: str) -> None:
        self._fault = fault
        self.key = (name, severity)
        self.fired: float | None = None
        self.resolved: float | None = None
        self.by_itself = False
        """Was it over before anything was mended?"""

    def row(self) -> dict[str, Any]:
        """As it is kept."""
        name, severity = self.key
        times = {"fired": self.fired, "resolved": self.resolved, "by_itself": self.by_itself}
        return {"alert": name, "severity": severity, "made": self._fault.made, "mended": self._fault.mended, **times}


class _Told:
    """A trouble, and what came of its alerts."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.alerts = [_Alert(fault, *alert) for alert in fault.alerts]
        self.begun = self.ended = 0.0


def _all(found: list[_Told]) -> list[_Alert]:
    return [alert for one in found for alert in one.alerts]


def _make(watcher: Prometheus, found: list[_Told]) -> None:
    """Make all troubles at once, and note when which alert fires."""

    def noted() -> bool:
        firing = watcher.firing_in()
        for one in found:
            for alert in one.alerts:
                if one.begun and alert.fired is None and (*alert.key, one.fault.namespace) in firing:
                    alert.fired = time.monotonic() - one.begun
        return all(alert.fired is not None for alert in _all(found))

    for one in found:
        one.begun = time.monotonic()
        one.fault.make()
        noted()
    wait_for(noted, _FIRE_SECONDS)


def _mend(watcher: Prometheus, found: list[_Told]) -> None:
    """Mend them, and note when which alert is over."""

    def noted() -> bool:
        firing = watcher.firing_in()
        for one in found:
            for alert in one.alerts:
                if one.ended and alert.resolved is None and (*alert.key, one.fault.namespace) not in firing:
                    alert.resolved = time.monotonic() - one.ended
        return all(alert.resolved is not None for alert in _all(found))

    firing = watcher.firing_in()
    for one in found:
        for alert in one.alerts:
            alert.by_itself = alert.fired is not None and (*alert.key, one.fault.namespace) not in firing
        one.ended = time.monotonic()
        one.fault.mend()
        noted()
    wait_for(noted, _RESOLVE_SECONDS)


def _panels(watcher: Prometheus) -> dict[str, int]:
    """How many series each query of the dashboard has."""
    shown: dict[str, int] = {}
    for panel, expression, legend in panels.queries(RATE):
        name = f"{panel} {legend}".strip()
        shown[name] = sum(one["value"][1] != "NaN" for one in watcher.query(expression))
    return shown


def _down(on: Stage) -> Fault:
    """All are gone."""

    def make() -> None:
        for served in on.servers:
            served.stop()

    return Fault(
        (("TriptychDown", "page"),),
        "every server is stopped",
        "one is started again",
        make,
        on.servers[0].start,
        namespace="",
    )
