"""What gives way as a service grows, and at how many requests a second."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scaling.sizes import (
    DNS_ADDRESSES,
    SCALES,
    Assumptions,
    Measured,
    Work,
    pod_rate,
    use,
)

POD_MEMORY_BYTES = 2**30
"""What `k8s/base` gives a pod."""

_UDP_BYTES = 1_232
"""Of an answer that resolvers take over UDP: DNS Flag Day 2020."""
UDP_ADDRESSES = (_UDP_BYTES - 72) // 16

CLUSTER_PODS = 150_000
CLUSTER_NODES = 5_000
"""Kubernetes, "Considerations for large clusters"."""


@dataclass(frozen=True)
class Limit:
    """One thing that gives way."""

    what: str
    number: str
    source: str
    """Measured, a specification, or an assumption."""
    rate: Callable[[Work], float]
    """Requests a second, all of this kind, at which it does."""
    then: str


def limits(of: Measured, given: Assumptions) -> list[Limit]:
    """Everything that was found, in no order."""

    def pods(count: float) -> Callable[[Work], float]:
        return lambda work: count * pod_rate(work, of, given)

    room = (POD_MEMORY_BYTES - of.rss_bytes) / of.connection_bytes
    series = given.prometheus_series / of.series
    nodes = CLUSTER_NODES * (given.node_cores - given.node_spare_cores)
    return [
        Limit(
            "one pod",
            f"{of.busy:.0%} of what a core can do",
            "measured: [overload](performance.md#overload)",
            lambda work: pod_rate(work, of, given) * of.busy / use(of, given),
            "late answers and refusals; a second pod, and one in each zone",
        ),
        Limit(
            "DNS over UDP",
            f"{UDP_ADDRESSES} addresses in {_UDP_BYTES:,} bytes",
            "RFC 1035, DNS Flag Day 2020",
            pods(UDP_ADDRESSES),
            "the headless Service's answer is cut, and asked for again over TCP: let TCP port 53 through",
        ),
        Limit(
            "connections that carry little",
            f"1 request a second on each of {given.client_per_second:,.0f}",
            "assumption: `client_per_second`",
            pods(given.client_per_second),
            "every client has a connection to every pod, and nothing to send on most: a subset for each client",
        ),
        Limit(
            "one Prometheus",
            f"{of.series} series a pod",
            "measured; assumption: `prometheus_series`",
            pods(series),
            "one for each cell, which records sums; only those are collected further up",
        ),
        Limit(
            "DNS over TCP",
            f"{DNS_ADDRESSES:,} addresses in 64 KiB",
            "RFC 1035",
            pods(DNS_ADDRESSES),
            "no answer has room for all pods: cells, each with a name of its own",
        ),
        Limit(
            "memory for connections",
            f"{of.connection_bytes / 1e3:.1f} kB each, {room:,.0f} in a pod of 1 GiB",
            "measured; the kernel's buffers are not in it",
            lambda _: room * given.client_per_second,
            "pods are killed for memory: a subset for each client, or proxies",
        ),
        Limit(
            "one cluster",
            f"{CLUSTER_NODES:,} nodes, {CLUSTER_PODS:,} pods",
            "Kubernetes' own limits",
            pods(min(nodes, CLUSTER_PODS)),
            "several clusters",
        ),
    ]


def scale(rate: float) -> int | None:
    """The scale by which something that gives way at `rate` has given way; None: by none of them."""
    return next((one for one in SCALES if rate <= one), None)
