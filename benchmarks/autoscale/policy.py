"""How Kubernetes decides on a number of pods: the HorizontalPodAutoscaler's algorithm, and what KEDA feeds it."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.servers import REPOSITORY

COMPONENT = REPOSITORY / "k8s" / "components" / "autoscale"

SYNC_SECONDS = 15
"""From one decision to the next: `--horizontal-pod-autoscaler-sync-period`."""
TOLERANCE = 0.1
"""`--horizontal-pod-autoscaler-tolerance`."""


@dataclass(frozen=True)
class Rule:
    """So many pods, or so many percent of them, in so many seconds."""

    percent: float
    pods: int
    seconds: int


@dataclass(frozen=True)
class Behaviour:
    """How fast one direction may go; of several rules, the one that allows most."""

    window: int
    """Seconds of recommendations, of which the most cautious counts."""
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Trigger:
    """One metric and what it ought to be."""

    signal: str
    threshold: float
    seconds: float
    """That the query looks back."""
    quantile: float = 0.0
    average: bool = True
    """The threshold is for each pod; else for the whole, whatever the number of pods."""


@dataclass(frozen=True)
class Policy:
    """Everything that decides."""

    least: int
    most: int
    triggers: tuple[Trigger, ...]
    up: Behaviour
    down: Behaviour
    connection_age: float = 0.0
    """`TRIPTYCH_MAX_CONNECTION_AGE_SECONDS`; 0: connections stay."""
    polling_seconds: int = 0
    """How often KEDA looks whether there is anything to do, where there are no pods."""


SIGNALS = {
    "triptych_queue_duration_seconds_bucket": "wait",
    "triptych_queue_rows": "queued",
    "triptych_requests_in_flight": "in_flight",
    "triptych_requests_total": "rate",
}
"""The metrics that a query may be about, and what they are called here."""


def keda(folder: Path = COMPONENT) -> Policy:
    """The policy of `k8s/components/autoscale`, its very numbers.

    Raises:
        ValueError: a trigger asks for something that is not simulated.
    """
    spec = yaml.safe_load((folder / "scaledobject.yaml").read_text(encoding="utf-8"))["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return Policy(
        least=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        triggers=tuple(_trigger(one) for one in spec["triggers"]),
        up=_behaviour(behaviour["scaleUp"]),
        down=_behaviour(behaviour["scaleDown"]),
        connection_age=_connection_age(folder),
        polling_seconds=spec["pollingInterval"],
    )


def _trigger(one: dict[str, Any]) -> Trigger:
    query = one["metadata"]["query"]
    named = [signal for metric, signal in SIGNALS.items() if metric in query]
    if len(named) != 1 or not (looks := query.partition("[")[2].partition("m]")[0]).isdecimal():
        raise ValueError(f"trigger {one['name']}: the simulation does not know {query!r}")
    quantile = query.partition("histogram_quantile(")[2].partition(",")[0]
    return Trigger(
        *(named[0], float(one["metadata"]["threshold"]), int(looks) * 60.0, float(quantile or 0)),
        one["metricType"] == "AverageValue",
    )


def _behaviour(one: dict[str, Any]) -> Behaviour:
    rules = (
        Rule(
            rule["value"] if rule["type"] == "Percent" else 0,
            rule["value"] if rule["type"] == "Pods" else 0,
            rule["periodSeconds"],
        )
        for rule in one["policies"]
    )
    return Behaviour(one["stabilizationWindowSeconds"], tuple(rules))


def _connection_age(folder: Path) -> float:
    made = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    literals = dict(line.split("=", 1) for one in made["configMapGenerator"] for line in one["literals"])
    return float(literals.get("TRIPTYCH_MAX_CONNECTION_AGE_SECONDS", 0))


def cpu(like: Policy, target: float = 0.7) -> Policy:
    """A HorizontalPodAutoscaler on the CPU with Kubernetes' own behaviour, and the bounds of another policy."""
    return replace(
        like,
        triggers=(Trigger("cpu", target, 30.0),),
        up=Behaviour(0, (Rule(100, 0, 15), Rule(0, 4, 15))),
        down=Behaviour(300, (Rule(100, 0, 15),)),
    )


def fixed(like: Policy, pods: int) -> Policy:
    """Always so many, and the connections of another policy."""
    return replace(like, least=pods, most=pods, triggers=())


@dataclass
class Autoscaler:
    """Decides every `SYNC_SECONDS`; each method is a step of kube-controller-manager's `podautoscaler`."""

    policy: Policy
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    """Recommendations of late, with their times."""
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, pods: int, ready: int, values: dict[Trigger, float]) -> int:
        """How many pods there ought to be.

        Args:
            now: seconds.
            pods: that there ought to be until now.
            ready: of these, those that take requests.
            values: of each trigger, over all pods; the mean of a pod's for CPU.
        """
        policy = self.policy
        wanted = max(self._recommended(trigger, value, pods, ready) for trigger, value in values.items())
        wanted = min(max(wanted, policy.least), policy.most)
        decided = min(max(self._limited(now, pods, self._stable(now, pods, wanted)), policy.least), policy.most)
        if decided != pods:
            self._changes.append((now, decided - pods))
        return decided

    def _recommended(self, trigger: Trigger, value: float, pods: int, ready: int) -> int:
        if trigger.signal == "cpu":
            return self._by_cpu(trigger, value, pods, ready)
        ratio = value / trigger.threshold / (pods if trigger.average else 1)
        if abs(ratio - 1) <= TOLERANCE:
            return pods
        return math.ceil(ratio * (pods if trigger.average else ready) - 1e-9)

    def _by_cpu(self, trigger: Trigger, value: float, pods: int, ready: int) -> int:
        """Pods without a value count as idle where more are asked for, and as right on target where fewer are."""
        ratio = value / trigger.threshold
        missing = pods - ready
        if missing and ratio > 1:
            ratio = value * ready / trigger.threshold / pods
            if ratio <= 1:
                return pods
        elif missing and ratio < 1:
            ratio = (value * ready / trigger.threshold + missing) / pods
        return pods if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * pods - 1e-9)

    def _stable(self, now: float, pods: int, wanted: int) -> int:
        self._wanted.append((now, wanted))
        policy = self.policy
        while self._wanted[0][0] < now - max(policy.up.window, policy.down.window):
            self._wanted.popleft()
        least = min(one for at, one in self._wanted if at >= now - policy.up.window)
        most = max(one for at, one in self._wanted if at >= now - policy.down.window)
        return min(max(pods, least), most)

    def _limited(self, now: float, pods: int, wanted: int) -> int:
        if wanted > pods:
            bounds = [
                max(math.ceil(before * (1 + rule.percent / 100) - 1e-9), before + rule.pods)
                for rule in self.policy.up.rules
                for before in [pods - self._changed(now, rule.seconds, up=True)]
            ]
            return min(wanted, max(pods, *bounds))
        if wanted < pods:
            bounds = [
                min(int(before * (1 - rule.percent / 100)), before - rule.pods)
                for rule in self.policy.down.rules
                for before in [pods - self._changed(now, rule.seconds, up=False)]
            ]
            return max(wanted, min(pods, *bounds))
        return pods

    def _changed(self, now: float, seconds: float, *, up: bool) -> int:
        return sum(change for at, change in self._changes if at > now - seconds and (change > 0) == up)
