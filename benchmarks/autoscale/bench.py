"""A simulated day of a fleet under several policies: what misses its deadline, and what it takes in pods."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.autoscale import plot
from benchmarks.autoscale.day import Day, course, height
from benchmarks.autoscale.fleet import Cluster, Trace, play
from benchmarks.autoscale.policy import Behaviour, Policy, Rule, cpu, fixed, keda
from benchmarks.autoscale.replica import BENCHMARKS, DEADLINE, STEP, WHAT, Replica, points, replica
from benchmarks.scaling.sizes import PAGE, Assumptions, records
from benchmarks.session import Session
from benchmarks.stats import ratio
from benchmarks.tables import Cell, Table

NAME = "autoscale"

__all__ = ["NAME", "PAGE", "draw", "run", "tables"]

DAYS = 5
SHOWN = 2
"""The day that the picture shows."""

HALF, TOP = 0.5, 0.65
"""Of a pod's maximum: what `scaling` plans with, and what the largest fleet's have at the crowd's top."""

SHIPPED, WAITS, CPU, LUNCH, CROWD = (
    "KEDA: the component",
    "KEDA: without requests a second",
    "HPA on CPU, 70 %",
    "fixed, for lunch",
    "fixed, for the crowd",
)

_AFTER = 600
"""Seconds after an event that are counted as its own."""
_BAD = 0.01
"""Share of a minute's requests not in time from which it counts as a bad one."""


class Study:
    """The fleet of one set of results: its pod, its days, and the policies to try."""

    def __init__(self, records: Mapping[str, dict[str, Any]]) -> None:
        self.records = records
        self.replica: Replica = replica(records)
        self.cluster = Cluster(ready=records["startup"]["summary"]["the server, three models ready"]["ready_seconds"])
        self.component: Policy = keda()
        self.planned = HALF * self.replica.maximum
        """Requests a second of each pod."""

    def offered(self, day: Day) -> npt.NDArray[np.float64]:
        """Requests a second: the crowd's top is what the component's largest fleet can carry."""
        return course(day) * (self.component.most * TOP * self.replica.maximum / height(day))

    def lunch(self) -> float:
        """Requests a second at noon's height, as whoever plans knows them."""
        day = Day(noise=0.0)
        return float(self.offered(day)[int(day.lunch_at)])

    def shipped(self) -> Policy:
        """The component, fitted to this pod.

        Its number of requests a second is for version 2 and real clients, and the pod here was measured with version 1
        and h2load, with which it does more than twice as much: so half of what this very pod does stands in its place.
        """
        return _asking(self.component, rate=self.planned)

    def policies(self) -> dict[str, Policy]:
        """Those that are compared."""
        shipped = self.shipped()
        waits = tuple(one for one in shipped.triggers if one.signal != "rate")
        return {
            SHIPPED: shipped,
            WAITS: replace(shipped, triggers=waits),
            CPU: cpu(shipped),
            LUNCH: fixed(shipped, math.ceil(self.lunch() / self.planned)),
            CROWD: fixed(shipped, shipped.most),
        }

    def variants(self) -> dict[str, tuple[Policy, Cluster]]:
        """The first two policies, and what each setting is worth in them."""
        best, waits = self.policies()[SHIPPED], self.policies()[WAITS]

        def only(signal: str) -> Policy:
            return replace(waits, triggers=tuple(one for one in waits.triggers if one.signal == signal))

        slow = replace(self.cluster, pull=self.cluster.pull + 55)
        node = replace(self.cluster, schedule=self.cluster.schedule + 120)
        usual = self.cluster
        return {
            "the component": (best, usual),
            "+, requests a second as in the file": (self.component, usual),
            "+, requests a second: all a pod can do": (_asking(best, rate=self.replica.maximum), usual),
            "+, in flight: 32 a pod": (_asking(best, in_flight=32), usual),
            "+, in flight: 8 a pod": (_asking(best, in_flight=8), usual),
            "+, no fewer than 3 pods": (replace(best, least=3), usual),
            "+, no fewer than 5 pods": (replace(best, least=5), usual),
            "+, no fewer than 7 pods": (replace(best, least=7), usual),
            "+, as many as are asked for at once": (replace(best, up=Behaviour(0, (Rule(900, 0, 15),))), usual),
            "+, calls balanced one by one": (replace(best, connection_age=1e-6), usual),
            "+, connections of 30 minutes": (replace(best, connection_age=1800), usual),
            "+, connections that stay": (replace(best, connection_age=0), usual),
            "+, an image that takes a minute more": (best, slow),
            "+, a node that takes two minutes": (best, node),
            "+, scaling down after a minute": (replace(best, down=replace(best.down, window=60)), usual),
            "without requests a second": (waits, usual),
            "−, only queue wait": (only("wait"), usual),
            "−, only in flight": (only("in_flight"), usual),
            "−, in flight: 32 a pod": (_asking(waits, in_flight=32), usual),
            "−, in flight: 8 a pod": (_asking(waits, in_flight=8), usual),
            "−, in flight: 4 a pod": (_asking(waits, in_flight=4), usual),
        }

    def day(self, policy: Policy, cluster: Cluster, day: Day) -> Trace:
        """One day of one policy."""
        return play(self.offered(day), day, self.replica, cluster, policy)


def _asking(policy: Policy, **thresholds: float) -> Policy:
    """A policy with other thresholds, by signal."""
    changed = (replace(one, threshold=thresholds.get(one.signal, one.threshold)) for one in policy.triggers)
    return replace(policy, triggers=tuple(changed))


def study() -> Study:
    """Of the last results."""
    return Study(records({*BENCHMARKS, "startup"}))


def run(session: Session) -> dict[str, Any]:
    """Every policy and every variant on the same days."""
    days = int(session.pick(DAYS, 1))
    made = study()
    policies = {name: (policy, made.cluster) for name, policy in made.policies().items()}
    raw: list[dict[str, Any]] = []
    summary: dict[str, list[dict[str, Any]]] = {}
    groups = {"policies": policies} if session.quick else {"policies": policies, "variants": made.variants()}
    with session.reporter.benchmark(NAME, sum(map(len, groups.values()))):
        for group, cases in groups.items():
            summary[group] = []
            for name, (policy, cluster) in cases.items():
                found = [figures(made.day(policy, cluster, Day(seed=seed)), Day(seed=seed)) for seed in range(days)]
                raw += [{"group": group, "name": name, "day": seed, **one} for seed, one in enumerate(found)]
                summary[group].append({"name": name, **_together(found)})
                session.reporter.step(f"{name}: {summary[group][-1]['missed']:.3%} not in time")
    offered = made.offered(Day(noise=0.0))
    settings = {
        "days": days,
        "component": asdict(made.component),
        "planned": made.planned,
        "cluster": asdict(made.cluster),
        "start_seconds": made.cluster.start,
        "day": asdict(Day()),
        "rates": {"least": float(offered.min()), "lunch": made.lunch(), "most": float(offered.max())},
        "pod": _pod(made),
    }
    return {"settings": settings, "summary": summary, "rounds": raw}


def _pod(made: Study) -> dict[str, Any]:
    """What the page says of one pod."""
    pod = made.replica
    half = Replica.line(made.planned)
    target = made.policies()[CPU].triggers[0].threshold
    return {
        "maximum": pod.maximum,
        "points": points(made.records),
        "cpu_at_half": float(pod.cpu[half]),
        "in_flight_at_half": float(pod.in_flight[half]),
        "wait_p99_ms_at_half": float(pod.wait_p99[half] * 1e3),
        "rate_at_cpu_target": int(np.searchsorted(pod.cpu, target)) * STEP,
    }


def figures(trace: Trace, day: Day) -> dict[str, Any]:
    """What came of a day, as numbers."""
    crowd, loss = (slice(int(at), int(at) + _AFTER) for at in (day.crowd_at, day.loss_at))
    minutes = 1 - trace.in_time.reshape(-1, 60).sum(1) / trace.offered.reshape(-1, 60).sum(1)
    rest = np.ones(len(trace.offered), bool)
    rest[crowd] = rest[loss] = False
    late = np.flatnonzero(trace.in_time[crowd] < (1 - _BAD) * trace.offered[crowd])
    return {
        "pod_hours": float(trace.paid.sum() / 3600),
        "mean_pods": float(trace.pods.mean()),
        "most_pods": int(trace.pods.max()),
        "missed": _missed(trace, slice(None)),
        "missed_crowd": _missed(trace, crowd),
        "missed_loss": _missed(trace, loss),
        "missed_rest": _missed(trace, rest),
        "wait_p99_ms": float(np.percentile(trace.wait_p99, 99) * 1e3),
        "bad_minutes": int((minutes > _BAD).sum()),
        "recovery_seconds": int(late[-1]) + 1 if len(late) else 0,
        "changes": trace.changes,
    }


def _missed(trace: Trace, part: Any) -> float:
    return 1 - ratio(float(trace.in_time[part].sum()), float(trace.offered[part].sum()))


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the days, and the worst."""
    means = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
    return {**means, "most_pods": max(one["most_pods"] for one in found), "worst": max(one["missed"] for one in found)}


def tables(record: dict[str, Any]) -> list[Table]:
    """The policies, and what each setting is worth."""
    settings, summary = record["settings"], record["summary"]
    rates = settings["rates"]
    note = (
        f"Simulated: {settings['days']} days that differ in their noise, {WHAT}, {rates['least']:,.0f} requests a "
        f"second at night, {rates['lunch']:,.0f} at lunch, {rates['most']:,.0f} at the top of a flash crowd (five "
        "times as many within a minute, for a quarter of an hour), and a node lost in the afternoon with a quarter of "
        f"the pods. *Missed*: not answered within {DEADLINE * 1e3:.0f} ms, refused, late or lost; *crowd* and *loss*: "
        f"in the {_AFTER // 60} minutes from there on; *worst*: of the days. *Wait*: of the worst-off pod, the 99th "
        "percentile of its second that 99 % of the seconds do not exceed. *Again*: seconds from the crowd's first "
        "until 99 % are in time. *Changes*: decisions that changed the number of pods, a day. "
        f"*The component*: `k8s/components/autoscale`, but for one number. Its file allows a pod "
        f"{_in_the_file(settings)} requests a second, half of what one does with version 2 and real clients; the "
        f"simulated pod serves version 1 to h2load, so that half of what it does is {settings['planned']:,.0f}, and "
        "stands in its place."
    )
    made = [_table("Policies over a day", summary["policies"], note)]
    if "variants" in summary:
        note = "The same days. *+*: the first policy of the table above, and what is changed of it; *−*: the second."
        made.append(_table("What each setting is worth", summary["variants"], note))
    return made


def _in_the_file(settings: dict[str, Any]) -> str:
    """Requests a second of a pod, as the component has them."""
    return next(f"{one['threshold']:,.0f}" for one in settings["component"]["triggers"] if one["signal"] == "rate")


def _table(title: str, cases: list[dict[str, Any]], note: str) -> Table:
    price = Assumptions().core_hour_usd
    rows: list[list[Cell]] = [
        [
            *(one["name"], one["mean_pods"], one["most_pods"], one["pod_hours"], one["pod_hours"] * price),
            *(f"{one[key]:.2%}" for key in ("missed", "worst", "missed_crowd", "missed_loss", "missed_rest")),
            *(one["wait_p99_ms"], round(one["bad_minutes"]), round(one["recovery_seconds"]), round(one["changes"])),
        ]
        for one in cases
    ]
    columns = ("", "pods", "most", "pod-hours", "USD", "missed", "worst", "crowd", "loss", "the rest", "wait ms")
    return Table(title, (*columns, "bad minutes", "again, s", "changes"), rows, note)


def draw(record: dict[str, Any]) -> None:
    """The day as a picture beside the page; computed again, for a record keeps no seconds."""
    made, day = study(), Day(seed=SHOWN)
    shown = {name: made.day(policy, made.cluster, day) for name, policy in made.policies().items() if name != CROWD}
    plot.write(shown, day)
