"""The pods of a simulated day: which are there, which take requests, how much each gets, what becomes of it."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.autoscale.day import SECONDS, Day
from benchmarks.autoscale.policy import SYNC_SECONDS, Autoscaler, Policy, Trigger
from benchmarks.autoscale.replica import Replica
from serving.telemetry.metrics import SECONDS as BUCKETS

_SETTLED = 0.98
"""The share of clients that know a pod at which it counts as one of the others."""


@dataclass(frozen=True)
class Cluster:
    """What the cluster takes its time for; seconds. Nothing here but `ready` was measured."""

    ready: float
    """From the start of the process to ready: the benchmark `startup`."""
    schedule: float = 1.0
    pull: float = 5.0
    """The image: 250 MB at 50 MB/s. None of it where the node has it."""
    container: float = 1.0
    probe: float = 2.0
    """The startup probe's period, of k8s/base."""
    dns: float = 5.0
    """Until the address is in every DNS cache."""
    scrape: float = 15.0
    leave: float = 15.0
    """preStop and lame duck: a pod that is paid for, and gets less and less."""
    detect: float = 10.0
    """Until clients drop a connection to a node that is gone: TCP_USER_TIMEOUT, as gRPC sets it (proposal A18)."""
    evict: float = 340.0
    """Until the pods of a lost node are made anew: 40 s to notice, 300 s of toleration."""

    @property
    def start(self) -> float:
        """From the decision to the first client that can know."""
        return self.schedule + self.pull + self.container + self.ready + self.probe + self.dns


@dataclass
class Trace:
    """What came of a day, second by second."""

    offered: npt.NDArray[np.float64]
    in_time: npt.NDArray[np.float64]
    """Requests answered within the deadline."""
    pods: npt.NDArray[np.float64]
    """That are ready."""
    paid: npt.NDArray[np.float64]
    """Pods that are paid for: those that start or leave, too."""
    wait_p99: npt.NDArray[np.float64]
    """Of the pod that is worst off."""
    changes: int = 0
    """Decisions that changed the number of pods."""


@dataclass
class _Cohort:
    """Pods that are alike."""

    pods: int
    ready_at: float
    ready: bool = False
    known: float = 0.0
    """Share of the clients that send them anything."""


@dataclass
class Fleet:
    """The pods, and what they told Prometheus."""

    replica: Replica
    cluster: Cluster
    connection_age: float
    cohorts: list[_Cohort] = field(default_factory=list)
    lost: int = 0
    """Pods of a lost node that the cluster still counts."""
    dead: int = 0
    """Of these, those that clients still send to."""

    @property
    def ready(self) -> int:
        """Pods that passed their probes."""
        return sum(one.pods for one in self.cohorts if one.ready)

    @property
    def alive(self) -> int:
        """Pods that run or start."""
        return sum(one.pods for one in self.cohorts)

    def grow(self, count: int, now: float) -> None:
        """More pods, which take their time."""
        self.cohorts.append(_Cohort(count, now + self.cluster.start))

    def shrink(self, count: int) -> None:
        """Fewer pods: those first that do least. Clients that were sent away by one ask DNS again, and learn of all."""
        if count and self.cohorts[-1].known:
            self.learn()
        while count and self.cohorts:
            one = self.cohorts[-1]
            gone = min(count, one.pods)
            one.pods -= gone
            count -= gone
            if not one.pods:
                self.cohorts.pop()

    def lose(self, share: float) -> None:
        """A node is gone, and pods that took requests with it."""
        first = self.cohorts[0]
        self.lost = self.dead = min(max(math.floor(self.ready * share), 1), first.pods)
        first.pods -= self.lost

    def learn(self) -> None:
        """Every client asks DNS, because a connection of each is gone."""
        for one in self.cohorts:
            one.known = float(one.ready)

    def settle(self, now: float) -> None:
        """Pods become ready, and clients come to know them: with each connection that ends they ask DNS again."""
        if len(self.cohorts) == 1 and self.cohorts[0].known == 1.0:
            return
        share = 1 - math.exp(-(self.ready + 1) / self.connection_age) if self.connection_age else 0.0
        for one in self.cohorts:
            one.ready = one.ready or now >= one.ready_at
            if one.ready:
                one.known += (1 - one.known) * share
        first = self.cohorts[0]
        for one in self.cohorts[1:]:
            if one.known > _SETTLED and first.known > _SETTLED:
                first.pods += one.pods
                one.pods = 0
        self.cohorts = [first, *(one for one in self.cohorts[1:] if one.pods)]

    def loads(self, rate: float) -> list[tuple[int, float]]:
        """How many pods get how many requests a second each."""
        weight = sum(one.pods * one.known for one in self.cohorts) + self.dead
        return [(one.pods, rate * one.known / weight) for one in self.cohorts if one.pods and one.known]


class Signals:
    """What Prometheus knows: sums over the pods for each second, averaged as the queries do."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._sums = {name: np.zeros(SECONDS + 1) for name in ("in_flight", "queued", "rate", "cpu")}
        self._waits = np.zeros((SECONDS + 1, len(BUCKETS) + 1))
        self._lag = round(cluster.scrape / 2)
        self._scrape = cluster.scrape
        self._chance = np.random.default_rng(seed)

    def add(self, second: int, values: dict[str, float], waits: npt.NDArray[np.float64]) -> None:
        """One second's sums, onto those of all before."""
        for name, value in values.items():
            self._sums[name][second + 1] = self._sums[name][second] + value
        self._waits[second + 1] = self._waits[second] + waits

    def read(self, now: int, trigger: Trigger) -> float:
        """A query's value: of what was scraped, which is half an interval old on average."""
        end = max(now - self._lag, 1)
        start = max(end - round(trigger.seconds), 0)
        if trigger.signal == "wait":
            return _quantile(self._waits[end] - self._waits[start], trigger.quantile)
        sums = self._sums[trigger.signal]
        mean = float(sums[end] - sums[start]) / (end - start)
        if trigger.signal in ("rate", "cpu"):
            return mean
        # Gauges are looked at a few times a minute: what is in flight at such a moment is a matter of chance.
        looks = max(trigger.seconds / self._scrape, 1)
        return max(mean + math.sqrt(mean / looks) * float(self._chance.normal()), 0.0)


def _quantile(waits: npt.NDArray[np.float64], quantile: float) -> float:
    """As Prometheus' `histogram_quantile` interpolates it."""
    wanted = quantile * waits[-1]
    if not wanted:
        return 0.0
    number = int(np.searchsorted(waits, wanted))
    if number >= len(BUCKETS):
        return BUCKETS[-1]
    low, before = (BUCKETS[number - 1], waits[number - 1]) if number else (0.0, 0.0)
    return float(low + (BUCKETS[number] - low) * (wanted - before) / (waits[number] - before))


def play(offered: npt.NDArray[np.float64], day: Day, replica: Replica, cluster: Cluster, policy: Policy) -> Trace:
    """A whole day under a policy; one without triggers keeps its number of pods."""
    wanted = policy.least
    fleet = Fleet(replica, cluster, policy.connection_age, [_Cohort(wanted, 0.0, True, 1.0)])
    scaler = Autoscaler(policy)
    signals = Signals(cluster, day.seed)
    in_time, pods, paid, waits = np.zeros((4, len(offered)))
    trace = Trace(offered, in_time, pods, paid, waits)
    leaving: list[tuple[float, int]] = []
    for second, rate in enumerate(offered.tolist()):
        _fate(second, day, fleet)
        fleet.settle(second)
        _serve(second, rate, fleet, signals, trace)
        leaving = [one for one in leaving if one[0] > second]
        trace.paid[second] = fleet.alive + sum(count for _, count in leaving)
        if second % SYNC_SECONDS or not policy.triggers:
            continue
        values = {trigger: signals.read(second, trigger) for trigger in policy.triggers}
        decided = scaler.decide(second, wanted, fleet.ready, values)
        if decided > wanted:
            fleet.grow(decided - wanted, second)
        elif decided < wanted:
            # The dead go first: the cluster prefers to remove what is not ready.
            unborn = min(fleet.lost, wanted - decided)
            fleet.lost -= unborn
            fleet.shrink(wanted - decided - unborn)
            leaving.append((second + cluster.leave, wanted - decided - unborn))
        trace.changes += decided != wanted
        wanted = decided
    return trace


def _fate(second: int, day: Day, fleet: Fleet) -> None:
    """What becomes of a node, and of its pods."""
    since = second - day.loss_at
    if since == 0:
        fleet.lose(day.loss_share)
    elif since == fleet.cluster.detect:
        fleet.dead = 0
        fleet.learn()
    elif since == fleet.cluster.evict and fleet.lost:
        fleet.grow(fleet.lost, second)
        fleet.lost = 0


def _serve(second: int, rate: float, fleet: Fleet, signals: Signals, trace: Trace) -> None:
    table = fleet.replica
    sums = {"in_flight": 0.0, "queued": 0.0, "rate": 0.0, "cpu": 0.0}
    waits = np.zeros(len(BUCKETS) + 1)
    for pods, each in fleet.loads(rate):
        line = table.line(each)
        answered = each * table.in_time[line]
        trace.in_time[second] += pods * answered
        trace.wait_p99[second] = max(trace.wait_p99[second], table.wait_p99[line])
        sums["in_flight"] += pods * table.in_flight[line]
        sums["queued"] += pods * table.queued[line]
        sums["rate"] += pods * each  # refusals are counted, too
        sums["cpu"] += pods * table.cpu[line]
        waits += pods * answered * table.below[line]
    trace.pods[second] = fleet.ready
    sums["cpu"] /= max(fleet.ready, 1)
    signals.add(second, sums, waits)
