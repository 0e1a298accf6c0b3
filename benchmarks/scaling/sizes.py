"""From what a request costs to what so many a second need: pods, network, connections, metrics and money."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from benchmarks import results
from benchmarks.servers import REPOSITORY

PAGE = REPOSITORY / "docs" / "scaling.md"

SCALES = (10_000, 1_000_000, 100_000_000)
"""Requests a second."""

BENCHMARKS = ("transports", "load", "overload", "versions", "startup")
"""Whose results are read here."""

DNS_MESSAGE_BYTES = 65_535
"""Over TCP: RFC 1035, section 4.2.2."""
_DNS_HEADER_BYTES = 12
_DNS_NAME_BYTES = 60
"""Of the question: a service's full name, its type and its class."""
_DNS_ADDRESS_BYTES = 16
"""One address with its name compressed: RFC 1035, section 4.1.4."""
DNS_ADDRESSES = (DNS_MESSAGE_BYTES - _DNS_HEADER_BYTES - _DNS_NAME_BYTES) // _DNS_ADDRESS_BYTES
"""What a headless Service's answer has room for."""

_PACKET_BYTES = 90
"""Around the payload of one packet: Ethernet's 38 with preamble and gap, IPv4's 20, TCP's 32 with timestamps."""
_IN_TIME = 0.99
"""The share of answers in time at which a load still counts as carried."""
_FEW_CALLERS = 16
_SMALL_BATCH = 8


class MissingResults(Exception):  # noqa: N818 - reads better where it is raised
    """A benchmark that is needed never ran."""


@dataclass(frozen=True)
class Assumptions:
    """What nothing here has measured. Put in your own."""

    zones: int = 3
    core_hour_usd: float = 0.04
    gpu_hour_usd: float = 2.00
    cross_zone_gb_usd: float = 0.02
    node_cores: int = 32
    node_spare_cores: int = 2
    nic_gbit: float = 25.0
    client_per_second: float = 200.0
    proxy_us: float = 50.0
    scrape_seconds: float = 15.0
    prometheus_series: float = 2e6
    cell_per_second: float = 1e6


WORDS = {
    "zones": "zones, one of which may be lost",
    "core_hour_usd": "USD for a core and an hour, its share of memory included",
    "gpu_hour_usd": "USD for a GPU and an hour",
    "cross_zone_gb_usd": "USD for a GB from one zone to another, both sides' charges together",
    "node_cores": "cores of a node",
    "node_spare_cores": "of these, kept for the system",
    "nic_gbit": "Gbit/s of a node's network interface",
    "client_per_second": "requests a second of one client process",
    "proxy_us": "CPU µs of a proxy that balances calls, for one request",
    "scrape_seconds": "seconds from scrape to scrape",
    "prometheus_series": "active series that one Prometheus holds",
    "cell_per_second": "requests a second of one cell, where there are several",
}
"""What each assumption is."""


@dataclass(frozen=True)
class Work:
    """One kind of request, as measured."""

    model: str
    what: str
    best_us: float
    """CPU of a request under h2load, 64 in flight, version 1."""
    clients_us: float
    """CPU of a request of real clients, few in flight, version 1."""
    version_us: float
    """What version 2's graph takes beyond version 1's."""
    graph_us: float
    """Of the best, ONNX Runtime alone, batches of 64."""
    up: float
    """Bytes of TCP's payload of a request."""
    down: float
    """Bytes of TCP's payload of its answer."""

    @property
    def planned_us(self) -> float:
        """CPU of a request to plan with."""
        return self.clients_us + self.version_us


@dataclass(frozen=True)
class Measured:
    """All that the sizes rest on."""

    works: tuple[Work, ...]
    busy: float
    """The highest load, as a share of a pod's own maximum, at which nearly all is answered in time."""
    rss_bytes: float
    connection_bytes: float
    series: int
    scrape_bytes: int
    ready_seconds: float


@dataclass(frozen=True)
class Size:
    """What one kind of request needs at one rate."""

    pods: int
    nodes: int
    cells: int
    gbit_up: float
    gbit_down: float
    packets: float
    """A second, both ways, where nothing shares a packet."""
    node_gbit: float
    nics: int
    clients: int
    pod_connections: int
    """Where every client has one to every pod of its cell."""
    connection_gib: float
    """Memory that they take in a pod."""
    proxy_cores: float
    series: int
    scrape_mb: float
    """A second."""
    prometheis: int
    core_usd: float
    """An hour."""
    zone_usd: float
    proxy_usd: float

    def per_million(self, rate: float) -> float:
        """USD for a million requests, cores and zones."""
        return (self.core_usd + self.zone_usd) / (rate * 3600) * 1e6


def records(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The last results of these benchmarks.

    Raises:
        MissingResults: one never ran.
    """
    found = {name: results.load(name) for name in names}
    if missing := sorted(name for name, one in found.items() if one is None):
        raise MissingResults(f"no results yet of {', '.join(missing)}")
    return {name: one for name, one in found.items() if one is not None}


def measured(records: Mapping[str, dict[str, Any]], counted: dict[str, Any]) -> Measured:
    """Out of the results of `BENCHMARKS`, and of what was counted on the wire."""
    cells = [one for one in records["overload"]["summary"]["cells"] if one["server"] == "native"]
    server = records["startup"]["summary"]["the server, three models ready"]
    return Measured(
        works=tuple(_work(records, model, wire) for model, wire in counted["wire"].items()),
        busy=max(one["share"] for one in cells if one["in_time_per_second"] >= _IN_TIME * one["rate"]),
        rss_bytes=server["rss_mib"] * 2**20,
        connection_bytes=counted["connection_bytes"],
        series=counted["scrape"]["series"],
        scrape_bytes=counted["scrape"]["bytes"],
        ready_seconds=server["ready_seconds"],
    )


def _work(records: Mapping[str, dict[str, Any]], model: str, wire: dict[str, Any]) -> Work:
    # Synthetic texts, where there are no others, are of like length; what was measured with real ones still holds.
    what = wire["what"].partition(", ")[0]
    summary = records["transports"]["summary"]
    cells = [one for one in summary["cells"] if one["what"].startswith(what)]
    best = next(one["native"]["cpu_us"] for one in cells if one["in_flight"] == max(one["in_flight"] for one in cells))
    clients = [one["native"]["cpu_us"] for one in cells if not one["in_flight"]]
    clients += [
        one["server"]["cpu_us"]
        for one in records["load"]["summary"]
        if one["what"].startswith(what) and one["callers"] == _FEW_CALLERS
    ]
    row = next(
        one for one in records["versions"]["summary"]["rows"] if (one["model"], one["batch"]) == (model, _SMALL_BATCH)
    )
    graph = next(value for name, value in summary["ceiling"].items() if name.startswith(what))
    return Work(
        *(model, what, best, max(clients), row["us"] - row["first_us"]),
        1e6 / graph["64"]["graph_rows_per_second"],
        *(wire["up"], wire["down"]),
    )


def use(of: Measured, given: Assumptions) -> float:
    """The share of a pod to plan with: what is left when a zone is lost may be as busy as is still good."""
    return of.busy * (given.zones - 1) / given.zones


def pod_rate(work: Work, of: Measured, given: Assumptions) -> float:
    """Requests a second of a pod of one core, as planned."""
    return use(of, given) / (work.planned_us * 1e-6)


def size(rate: float, work: Work, of: Measured, given: Assumptions) -> Size:
    """What `rate` requests a second need."""
    pods = _in_zones(rate / pod_rate(work, of, given), given)
    cells = math.ceil(rate / given.cell_per_second)
    nodes = _in_zones(pods / (given.node_cores - given.node_spare_cores), given)
    clients = math.ceil(rate / given.client_per_second)
    up, down = (rate * (one + _PACKET_BYTES) * 8e-9 for one in (work.up, work.down))
    hourly = (work.up + work.down + 2 * _PACKET_BYTES) * rate * 3600
    proxy_cores = rate * given.proxy_us * 1e-6 / use(of, given)
    connections = math.ceil(clients / cells)
    return Size(
        pods=pods,
        nodes=nodes,
        cells=cells,
        gbit_up=up,
        gbit_down=down,
        packets=2 * rate,
        node_gbit=up / nodes,
        nics=math.ceil(up / (given.nic_gbit * use(of, given))),
        clients=clients,
        pod_connections=connections,
        connection_gib=connections * of.connection_bytes / 2**30,
        proxy_cores=proxy_cores,
        series=pods * of.series,
        scrape_mb=pods * of.scrape_bytes / given.scrape_seconds / 1e6,
        prometheis=math.ceil(pods * of.series / given.prometheus_series),
        core_usd=pods * given.core_hour_usd,
        zone_usd=hourly * 1e-9 * (given.zones - 1) / given.zones * given.cross_zone_gb_usd,
        proxy_usd=proxy_cores * given.core_hour_usd,
    )


def _in_zones(count: float, given: Assumptions) -> int:
    """At least so many, and as many in each zone as in any other."""
    return math.ceil(count / given.zones) * given.zones


def parameters(given: Assumptions) -> list[tuple[str, str, float]]:
    """Each assumption's name, what it is, and its value."""
    return [(field.name, WORDS[field.name], getattr(given, field.name)) for field in fields(given)]
