from dataclasses import replace

import numpy as np
import pytest
import yaml

from benchmarks import results
from benchmarks.autoscale import bench as autoscale
from benchmarks.autoscale.bench import CPU, CROWD, LUNCH, SHIPPED, WAITS, figures, study
from benchmarks.autoscale.day import SECONDS, Day, course, height
from benchmarks.autoscale.fleet import Cluster, Fleet, Signals, _Cohort, play
from benchmarks.autoscale.lessons import lessons
from benchmarks.autoscale.policy import COMPONENT, Autoscaler, Behaviour, Policy, Rule, Trigger, cpu, fixed, keda
from benchmarks.autoscale.replica import Replica
from serving.telemetry.metrics import SECONDS as BUCKETS

EACH = Trigger("in_flight", 32, 60)
WHOLE = Trigger("wait", 0.01, 60, 0.95, average=False)
POLICY = Policy(2, 10, (EACH, WHOLE), Behaviour(0, (Rule(100, 0, 30),)), Behaviour(300, (Rule(25, 0, 60),)))
CLUSTER = Cluster(ready=0.7)


@pytest.fixture(scope="module")
def made():
    return study()


@pytest.fixture(scope="module")
def saved():
    found = results.load(autoscale.NAME)
    if found is None:
        pytest.skip("autoscale has no results yet")
    return found


def test_the_policy_has_the_very_numbers_of_the_component():
    spec = yaml.safe_load((COMPONENT / "scaledobject.yaml").read_text())["spec"]
    policy = keda()
    assert (policy.least, policy.most) == (spec["minReplicaCount"], spec["maxReplicaCount"])
    assert [one.threshold for one in policy.triggers] == [
        float(one["metadata"]["threshold"]) for one in spec["triggers"]
    ]
    assert {one.signal for one in policy.triggers} == {"wait", "queued", "in_flight", "rate"}
    assert [one for one in policy.triggers if one.quantile] == [one for one in policy.triggers if one.signal == "wait"]
    assert policy.connection_age > 0
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert policy.down.window == down["stabilizationWindowSeconds"]


def test_the_first_policy_is_the_component_but_for_the_requests_of_this_pod(made):
    shipped, waits = made.policies()[SHIPPED], made.policies()[WAITS]
    changed = [
        (one, other) for one, other in zip(made.component.triggers, shipped.triggers, strict=True) if one != other
    ]
    ((filed, fitted),) = changed
    assert replace(fitted, threshold=filed.threshold) == filed
    assert filed.signal == "rate"
    assert fitted.threshold == pytest.approx(made.replica.maximum / 2)
    assert replace(shipped, triggers=made.component.triggers) == made.component
    assert waits == replace(shipped, triggers=tuple(one for one in shipped.triggers if one.signal != "rate"))


def test_a_trigger_that_is_not_simulated_is_refused(tmp_path):
    for name in ("scaledobject.yaml", "kustomization.yaml"):
        text = (COMPONENT / name).read_text().replace("triptych_queue_rows", "somebody_elses_metric")
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="does not know"):
        keda(tmp_path)


@pytest.mark.parametrize(
    ("trigger", "value", "wanted"),
    [
        (EACH, 4 * 32.0 * 1.09, 4),  # within the tolerance
        (EACH, 4 * 32.0 * 1.2, 5),
        (EACH, 32.0 * 5.1, 6),  # of all pods together: however many there are
        (WHOLE, 0.0109, 4),
        (WHOLE, 0.015, 6),  # the same for every number of pods: a ratio to those that are ready
        (WHOLE, 0.09, 8),  # no more than twice as many in half a minute
    ],
)
def test_more_pods_are_asked_for_as_kubernetes_reckons(trigger, value, wanted):
    assert Autoscaler(replace(POLICY, triggers=(trigger,))).decide(0, 4, 4, {trigger: value}) == wanted


def test_of_several_triggers_the_most_counts_within_the_bounds():
    assert Autoscaler(POLICY).decide(0, 4, 4, {EACH: 0.0, WHOLE: 0.015}) == 6
    assert Autoscaler(POLICY).decide(0, 8, 8, {EACH: 9e9, WHOLE: 0.0}) == 10
    alone = replace(POLICY, down=Behaviour(0, (Rule(100, 0, 15),)))
    assert Autoscaler(alone).decide(0, 4, 4, {EACH: 0.0, WHOLE: 0.0}) == 2


def test_fewer_pods_wait_for_the_window_and_go_a_quarter_a_minute():
    scaler, pods, seen = Autoscaler(POLICY), 8, []
    scaler.decide(0, pods, pods, {EACH: 8 * 32.0, WHOLE: 0.0})
    for now in range(15, 600, 15):
        pods = scaler.decide(now, pods, pods, {EACH: 0.0, WHOLE: 0.0})
        seen.append((now, pods))
    assert [now for now, count in seen if count == 8][-1] == 300
    assert [dict(seen)[now] for now in (315, 330, 360, 375, 435)] == [6, 6, 6, 4, 3]
    assert seen[-1][1] == 2


def test_growth_is_counted_over_the_rules_period():
    scaler = Autoscaler(replace(POLICY, most=100))
    assert scaler.decide(0, 4, 4, {EACH: 9e9, WHOLE: 0.0}) == 8
    assert scaler.decide(15, 8, 8, {EACH: 9e9, WHOLE: 0.0}) == 8
    assert scaler.decide(30, 8, 8, {EACH: 9e9, WHOLE: 0.0}) == 16


def test_pods_without_cpu_figures_are_taken_for_what_changes_least():
    policy = cpu(replace(POLICY, most=100))
    (trigger,) = policy.triggers
    assert Autoscaler(policy).decide(0, 4, 4, {trigger: 1.0}) == 6
    assert Autoscaler(policy).decide(0, 4, 2, {trigger: 1.0}) == 4  # idle, should more be asked for
    eager = replace(policy, down=Behaviour(0, policy.down.rules))
    assert Autoscaler(eager).decide(0, 4, 4, {trigger: 0.35}) == 2
    assert Autoscaler(eager).decide(0, 4, 2, {trigger: 0.35}) == 3  # busy, should fewer be


def test_a_pod_is_what_was_measured(made):
    pod: Replica = made.replica
    overload = [one for one in made.records["overload"]["summary"]["cells"] if one["server"] == "native"]
    for one in overload:
        share = min(one["in_time_per_second"] / one["rate"], 1.0)
        assert pod.in_time[Replica.line(one["rate"])] == pytest.approx(share, abs=0.02)
    assert (np.diff(pod.wait_p99) >= 0).all()
    assert (np.diff(pod.cpu) >= 0).all()
    assert (np.diff(pod.below, axis=1) >= 0).all()
    assert pod.below[Replica.line(0.5 * pod.maximum), BUCKETS.index(0.1)] == 1.0
    # Beyond what was measured, answers stay what they were there.
    rates = np.arange(len(pod.in_time)) * 250.0
    assert (rates * pod.in_time)[-1] == pytest.approx(overload[-1]["in_time_per_second"], rel=0.01)


def test_a_day_has_its_events_and_its_seed():
    day = Day(noise=0.0)
    rate = course(day)
    assert rate.min() == pytest.approx(0.2, rel=0.01)
    top = int(day.crowd_at + day.crowd_rise_seconds)
    assert rate[top] / rate[int(day.crowd_at) - 1] == pytest.approx(5.0, rel=0.01)
    assert rate.max() == pytest.approx(height(day), rel=0.01)
    assert (course(Day(seed=1)) == course(Day(seed=1))).all()
    assert (course(Day(seed=1)) != course(Day(seed=2))).any()
    assert course(Day()).mean() == pytest.approx(rate.mean(), rel=0.01)


def fleet(made, age: float) -> Fleet:
    one = Fleet(made.replica, CLUSTER, age, [_Cohort(3, 0.0, True, 1.0)])
    one.grow(1, 0)
    return one


def test_a_new_pod_is_asked_as_connections_end_and_never_where_they_stay(made):
    shares = {}
    for age in (0.0, 1e-6, 300.0):
        one = fleet(made, age)
        for now in range(20):
            one.settle(now)
        shares[age] = [each for _, each in one.loads(400.0)]
        assert one.ready == 4
        assert sum(pods * each for pods, each in one.loads(400.0)) == pytest.approx(400.0)
    assert len(shares[0.0]) == 1
    assert shares[1e-6] == [pytest.approx(100.0)]
    assert shares[300.0][1] < 0.2 * shares[300.0][0]
    stays = fleet(made, 0.0)
    stays.settle(20)
    stays.cohorts.append(_Cohort(1, 0.0, True, 1.0))
    stays.shrink(1)  # its clients ask DNS again
    assert sum(pods for pods, _ in stays.loads(400.0)) == 4


def test_what_is_sent_to_a_lost_node_is_lost_until_clients_notice(made):
    one = Fleet(made.replica, CLUSTER, 300.0, [_Cohort(4, 0.0, True, 1.0)])
    one.lose(0.25)
    assert sum(pods * each for pods, each in one.loads(400.0)) == pytest.approx(300.0)
    assert (one.ready, one.lost) == (3, 1)


def test_quantiles_are_those_of_prometheus():
    signals = Signals(CLUSTER, 0)
    counts = np.asarray([0.0] * 6 + [90.0] + [100.0] * (len(BUCKETS) - 6))
    for second in range(60):
        signals.add(second, {"in_flight": 2.0, "queued": 0.0, "rate": 10.0, "cpu": 0.5}, counts)
    low, high = BUCKETS[6], BUCKETS[7]
    assert signals.read(60, WHOLE) == pytest.approx(low + (high - low) * 0.5)
    assert signals.read(60, Trigger("rate", 1, 30)) == pytest.approx(10.0)
    assert signals.read(60, Trigger("in_flight", 1, 60)) == pytest.approx(2.0, abs=3)


def test_pods_enough_miss_nothing_but_the_lost_node(made):
    day = Day(noise=0.0, crowd=1.0)
    offered = np.full(SECONDS, 10_000.0)
    trace = play(offered, day, made.replica, CLUSTER, fixed(POLICY, 4))
    found = figures(trace, day)
    assert (trace.in_time <= trace.offered + 1e-6).all()
    assert found["missed_rest"] < 1e-6
    assert found["missed"] * SECONDS == pytest.approx(CLUSTER.detect * 0.25, rel=0.01)
    assert found["pod_hours"] == pytest.approx(96, rel=0.01)
    assert trace.pods[int(day.loss_at)] == 3
    assert trace.pods[-1] == 4


@pytest.mark.parametrize("name", [SHIPPED, CPU])
def test_the_saved_study_is_the_one_that_this_code_makes(made, saved, name):
    day = Day(seed=0)
    before = next(one for one in saved["rounds"] if (one["name"], one["day"]) == (name, 0))
    now = figures(made.day(made.policies()[name], made.cluster, day), day)
    assert {key: before[key] for key in now} == {key: pytest.approx(value, rel=1e-4) for key, value in now.items()}


def test_the_lessons_are_true_of_these_figures(saved):
    cases = {one["name"]: one for one in saved["summary"]["policies"]}
    variants = {one["name"]: one for one in saved["summary"]["variants"]}
    pod = saved["settings"]["pod"]
    # Without requests a second it hunts; they end that, with fewer pods. The crowd finds what swings useful.
    assert cases[WAITS]["changes"] > 5 * cases[SHIPPED]["changes"]
    assert cases[WAITS]["bad_minutes"] > 3 * cases[SHIPPED]["bad_minutes"]
    assert cases[SHIPPED]["pod_hours"] < cases[WAITS]["pod_hours"]
    assert cases[SHIPPED]["missed_rest"] < cases[WAITS]["missed_rest"]
    assert (
        cases[SHIPPED]["missed_crowd"]
        > cases[WAITS]["missed_crowd"]
        > variants["+, no fewer than 7 pods"]["missed_crowd"]
    )
    # Too low a number of them costs pods, too high a one is none; then in flight keeps it within bounds.
    low, high = variants["+, requests a second as in the file"], variants["+, requests a second: all a pod can do"]
    assert low["pod_hours"] > 1.2 * cases[SHIPPED]["pod_hours"]
    assert low["missed_crowd"] < cases[SHIPPED]["missed_crowd"]
    assert high["changes"] > 0.9 * cases[WAITS]["changes"]
    bad = [variants[f"−, in flight: {few} a pod"]["bad_minutes"] for few in (32, 8)]
    assert bad[0] > cases[WAITS]["bad_minutes"] > bad[1]
    # What is allowed in flight is no worse than more beside the right number of requests, and fewer are restless.
    many, few = variants["+, in flight: 32 a pod"], variants["+, in flight: 8 a pod"]
    assert abs(many["changes"] - cases[SHIPPED]["changes"]) < 2
    assert many["pod_hours"] == pytest.approx(cases[SHIPPED]["pod_hours"], rel=0.01)
    assert few["changes"] > 1.5 * cases[SHIPPED]["changes"]
    assert few["pod_hours"] > cases[SHIPPED]["pod_hours"]
    asked = {one["signal"]: one["threshold"] for one in saved["settings"]["component"]["triggers"]}
    assert pod["in_flight_at_half"] < asked["in_flight"]
    assert pod["wait_p99_ms_at_half"] < asked["wait"] * 1e3
    # CPU is full long before the pod is.
    assert pod["cpu_at_half"] > 0.7
    assert cases[CPU]["pod_hours"] > 1.5 * cases[SHIPPED]["pod_hours"]
    assert cases[CPU]["missed"] < cases[SHIPPED]["missed"]
    # Headroom, starts and connections.
    crowd = [variants[name]["missed_crowd"] for name in ("the component", "+, no fewer than 5 pods")]
    crowd += [variants["+, no fewer than 7 pods"]["missed_crowd"], cases[CROWD]["missed_crowd"]]
    assert crowd == sorted(crowd, reverse=True)
    assert cases[LUNCH]["missed_crowd"] > 0.5
    spread = ("+, calls balanced one by one", "the component", "+, connections of 30 minutes")
    missed = [variants[name]["missed_crowd"] for name in (*spread, "+, connections that stay")]
    assert missed == sorted(missed)
    assert lessons(saved).count("\n- ") == 7
