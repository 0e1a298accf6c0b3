"""What the simulated day teaches, in words whose figures are the simulation's."""

from typing import Any

from benchmarks.autoscale.bench import CPU, CROWD, HALF, LUNCH, SHIPPED, WAITS
from benchmarks.scaling.sizes import Assumptions


def lessons(record: dict[str, Any]) -> str:
    """A list, in Markdown."""
    settings = record["settings"]
    cases = {one["name"]: one for one in record["summary"]["policies"]}
    variants = {one["name"]: one for one in record["summary"]["variants"]}
    points = (
        _signal(settings, cases),
        _threshold(settings, variants),
        _cpu(settings, cases),
        _headroom(settings, cases, variants),
        _connections(variants),
        _loss(settings, cases),
        _nothing(settings),
        _money(cases),
    )
    return "\n".join(f"- {point}" for point in points)


def _signal(settings: dict[str, Any], cases: dict[str, Any]) -> str:
    pod, waits, shipped = settings["pod"], cases[WAITS], cases[SHIPPED]
    asked = _asked(settings)
    return (
        f"**Signal.** A queue says that there are too few pods, and nothing of how many would do. At half of its "
        f"maximum a pod has {pod['in_flight_at_half']:.0f} requests in flight, where {asked['in_flight']:.0f} are "
        f"allowed, and of a hundred requests 99 wait less than {pod['wait_p99_ms_at_half']:.1f} ms, where "
        f"{asked['wait'] * 1e3:.0f} are; so all of that asks for the fewest pods there may be, five minutes long, "
        f"until all wait at once and the number is doubled and doubled again. That fleet hunts: {waits['changes']:.0f} "
        f"changes a day, {waits['bad_minutes']:.0f} bad minutes, {waits['missed_rest']:.2%} missed with nothing the "
        f"matter. Requests a second are proportional to the load, and end it: {settings['planned']:,.0f} a pod, "
        f"{HALF:.0%} of what it can do, make {shipped['changes']:.0f} changes, {shipped['bad_minutes']:.0f} bad "
        f"minutes and {1 - shipped['pod_hours'] / waits['pod_hours']:.0%} fewer pod-hours. What swings has "
        f"more pods than it needs much of the time, and the crowd happens to find some of them: "
        f"{waits['missed_crowd']:.1%} of it are missed, against {shipped['missed_crowd']:.1%}. If that is wanted, "
        "ask for it: *Headroom*, below."
    )


def _threshold(settings: dict[str, Any], variants: dict[str, Any]) -> str:
    usual, asked = variants["the component"], _asked(settings)
    low, high = variants["+, requests a second as in the file"], variants["+, requests a second: all a pod can do"]
    many, few = variants["+, in flight: 32 a pod"], variants["+, in flight: 8 a pod"]
    wrong_many, wrong, wrong_few = (
        variants[name] for name in ("−, in flight: 32 a pod", "without requests a second", "−, in flight: 8 a pod")
    )
    return (
        "**Threshold.** Take half of what a pod of your own does with your own requests. Too low a number costs pods: "
        f"with {asked['rate']:,.0f}, as the file has it for dearer requests, "
        f"{low['pod_hours'] / usual['pod_hours']:.1f} times the pod-hours, of which the crowd has the benefit "
        f"({low['missed_crowd']:.1%} missed). Too high a one is as good as none: with all that a pod can do, "
        f"{high['changes']:.0f} changes. For that there are the requests in flight: "
        f"{wrong_many['bad_minutes']:.0f} bad minutes with 32 a pod, {wrong['bad_minutes']:.0f} with "
        f"{asked['in_flight']:.0f}, {wrong_few['bad_minutes']:.0f} with 8, where nothing counts requests. Where "
        f"something does, {asked['in_flight']:.0f} are no worse than 32 ({usual['changes']:.0f} and "
        f"{many['changes']:.0f} changes), while 8, which a pod has at half of its maximum, meddle "
        f"({few['changes']:.0f} changes, {few['pod_hours'] / usual['pod_hours'] - 1:.0%} more pod-hours)."
    )


def _asked(settings: dict[str, Any]) -> dict[str, float]:
    """The component's thresholds, by signal."""
    return {one["signal"]: one["threshold"] for one in settings["component"]["triggers"]}


def _cpu(settings: dict[str, Any], cases: dict[str, Any]) -> str:
    pod, cpu, shipped = settings["pod"], cases[CPU], cases[SHIPPED]
    return (
        f"**CPU is no measure of load here.** A pod at half of its maximum keeps {pod['cpu_at_half']:.0%} of its core "
        f"busy, because small batches cost more a request; 70 % are reached at {pod['rate_at_cpu_target']:,} requests "
        f"a second, {pod['rate_at_cpu_target'] / pod['maximum']:.0%} of the maximum. So an autoscaler on CPU buys "
        f"{cpu['pod_hours'] / shipped['pod_hours']:.1f} times the pod-hours. That is also why it misses least: it "
        "stood at the largest number before the crowd came. Headroom does that, not the signal."
    )


def _headroom(settings: dict[str, Any], cases: dict[str, Any], variants: dict[str, Any]) -> str:
    shipped, fixed = cases[SHIPPED], cases[CROWD]
    five, seven = variants["+, no fewer than 5 pods"], variants["+, no fewer than 7 pods"]
    once = variants["+, as many as are asked for at once"]
    slow = variants["+, an image that takes a minute more"]
    return (
        f"**Headroom.** Nothing that measures first and starts pods then ({settings['start_seconds']:.0f} s of the "
        f"wait, and twice as many at the most in half a minute) keeps up with five times the load in a minute: "
        f"{shipped['missed_crowd']:.1%} of ten minutes' requests are missed, and it is "
        f"{shipped['recovery_seconds']:.0f} s until 99 % are in time. "
        f"A start that takes a minute more makes that {slow['missed_crowd']:.0%}; scaling up "
        f"without a limit {once['missed_crowd']:.1%}. What helps is pods that are there beforehand: "
        f"{five['missed_crowd']:.1%} with never fewer than 5, {seven['missed_crowd']:.1%} with 7, "
        f"{fixed['missed_crowd']:.1%} with all {fixed['most_pods']}. A fleet planned for lunch and left alone "
        f"({cases[LUNCH]['most_pods']} pods) misses {cases[LUNCH]['missed_crowd']:.0%}: beyond its maximum a server "
        "answers less than at it."
    )


def _connections(variants: dict[str, Any]) -> str:
    usual, one_by_one, long, never = (
        variants[name]["missed_crowd"]
        for name in (
            "the component",
            "+, calls balanced one by one",
            "+, connections of 30 minutes",
            "+, connections that stay",
        )
    )
    return (
        f"**Connections decide whether new pods are of use.** Missed of the crowd: {one_by_one:.1%} where calls are "
        f"balanced one by one, {usual:.1%} with connections of five minutes, {long:.0%} of thirty, {never:.0%} where "
        "they stay for good."
    )


def _loss(settings: dict[str, Any], cases: dict[str, Any]) -> str:
    cluster, day = settings["cluster"], settings["day"]
    return (
        f"**A lost node** costs what was sent to it until clients notice, {cluster['detect']:.0f} s: "
        f"{cases[SHIPPED]['missed_loss']:.2%} of ten minutes with a fleet that fits, "
        f"{cases[CROWD]['missed_loss']:.2%} of one that is far too large, both mostly that. "
        f"An autoscaler counts the lost pods as there for "
        f"{cluster['evict']:.0f} s more, so that it makes up for them only as far as the others' load passes its "
        f"threshold: the {day['loss_share']:.0%} that may go must be in the headroom."
    )


def _nothing(settings: dict[str, Any]) -> str:
    component, price = settings["component"], Assumptions().core_hour_usd
    away = component["polling_seconds"] + settings["start_seconds"]
    return (
        f"**Scaling to zero** saves {component['least']} pods, {component['least'] * price:.2f} USD an idle hour, and "
        f"costs whoever comes first up to {component['polling_seconds']} s of polling and "
        f"{settings['start_seconds']:.0f} s of start: {away:.0f} s in which calls find nobody. It would not even wake: "
        "every trigger's metric comes from the pods themselves. It takes something in front that holds or counts "
        "calls, as Knative's activator does."
    )


def _money(cases: dict[str, Any]) -> str:
    price = Assumptions().core_hour_usd
    saved = (cases[CROWD]["pod_hours"] - cases[SHIPPED]["pod_hours"]) * price
    return (
        f"**What it is worth**: {saved:.2f} USD a day between the autoscaler and the fixed fleet for the crowd, by the "
        f"price above, for {cases[SHIPPED]['missed'] - cases[CROWD]['missed']:.2%} of the requests. Multiply both by "
        "your size before you choose: a small fleet that is fixed and large enough is hard to beat."
    )
