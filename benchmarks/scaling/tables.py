"""The tables of docs/scaling.md that are arithmetic: costs, assumptions, sizes, limits, GPUs."""

from benchmarks.scaling.limits import limits, scale
from benchmarks.scaling.sizes import SCALES, Assumptions, Measured, Size, parameters, pod_rate, size, use
from benchmarks.tables import Cell, Table, text

_NAMES = {10_000: "10 thousand", 1_000_000: "1 million", 100_000_000: "100 million"}


def cost(of: Measured, given: Assumptions) -> Table:
    """What a request costs, and so what a pod carries."""
    rows: list[list[Cell]] = [
        [
            *(work.what, work.best_us, work.clients_us, work.version_us, work.planned_us),
            *(round(1e6 / work.planned_us), round(pod_rate(work, of, given)), work.up, work.down),
        ]
        for work in of.works
    ]
    note = (
        "CPU µs of a request. *Best*: h2load, 64 in flight, version 1. *Real clients*: the dearest that was measured "
        "of grpcio's own with 16 in flight, many deadlines among them. *Version 2*: what its graph takes beyond "
        "version 1's, in batches of 8. *To plan with*: real clients and version 2. A pod has one core and is planned "
        f"at {use(of, given):.0%} of it: {of.busy:.0%} is the highest load that was answered in time "
        f"([overload](performance.md#overload)), and must not be passed when one of {given.zones} zones is lost. "
        "Bytes: TCP's payload of a call, everything of HTTP/2 included, counted between grpcio's client and the "
        "server."
    )
    columns = ("µs a request", "best", "real clients", "version 2", "to plan with", "core, req/s", "pod, req/s")
    return Table("What a request costs", (*columns, "bytes in", "bytes out"), rows, note)


def assumed(given: Assumptions) -> Table:
    """What is not measured."""
    rows: list[list[Cell]] = [[f"`{name}`", what, f"{value:,.10g}"] for name, what, value in parameters(given)]
    note = (
        "Prices are round figures of the order of public clouds' list prices, no offer of anybody's. Put in your own: "
        "they are the fields of `Assumptions` in `benchmarks/scaling/sizes.py`, and `python -m benchmarks --show "
        "scaling` writes this page anew."
    )
    return Table("What is assumed", ("name", "what it is", "value"), rows, note, labels=2)


def sizes(of: Measured, given: Assumptions) -> Table:
    """Everything, for each kind of request and each scale."""
    plans = [(rate, size(rate, work, of, given)) for work in of.works for rate in SCALES]
    heads = [f"{work.what}, {_NAMES[rate]}" for work in of.works for rate in SCALES]
    lines: list[list[Cell]] = [
        ["pods, one core each", *(one.pods for _, one in plans)],
        [f"nodes of {given.node_cores} cores", *(one.nodes for _, one in plans)],
        ["cells", *(one.cells for _, one in plans)],
        ["network in, Gbit/s", *(one.gbit_up for _, one in plans)],
        ["network out, Gbit/s", *(one.gbit_down for _, one in plans)],
        ["packets/s, at most", *(one.packets for _, one in plans)],
        ["network in of a node, Gbit/s", *(one.node_gbit for _, one in plans)],
        [f"interfaces of {given.nic_gbit:g} Gbit/s, for the bytes alone", *(one.nics for _, one in plans)],
        ["client processes", *(one.clients for _, one in plans)],
        ["connections of a pod", *(one.pod_connections for _, one in plans)],
        ["memory for them, GiB", *(one.connection_gib for _, one in plans)],
        ["hops between client and pod", *("0" if one.cells == 1 else "0, or 1" for _, one in plans)],
        ["cores of proxies, for each hop that balances calls", *(one.proxy_cores for _, one in plans)],
        ["metrics, series", *(one.series for _, one in plans)],
        ["scraped, MB/s", *(one.scrape_mb for _, one in plans)],
        ["Prometheus servers", *(one.prometheis for _, one in plans)],
        ["USD an hour: cores", *(one.core_usd for _, one in plans)],
        ["USD an hour: between zones", *(one.zone_usd for _, one in plans)],
        ["USD an hour: each hop of proxies", *(one.proxy_usd for _, one in plans)],
        ["USD for a million requests, no proxies", *(_money(one, rate) for rate, one in plans)],
    ]
    note = (
        "Requests a second of one kind only; for a mixture add the pods of its parts. A client has one connection to "
        "every pod of its cell, as `round_robin` makes it; with more than one cell something must say which cell a "
        "client belongs to: DNS by where it is (no hop), or a proxy (one). *Between zones*: clients and pods are "
        "spread evenly and know nothing of zones. Packets: none is shared by two requests."
    )
    return Table("What so many requests a second need", ("", *heads), lines, note)


def _money(one: Size, rate: float) -> str:
    return f"{one.per_million(rate):.4f}"


def breaks(of: Measured, given: Assumptions) -> Table:
    """What gives way first, by the rate of the dearest kind of request."""
    dearest = max(of.works, key=lambda work: work.planned_us)
    others = [work for work in of.works if work is not dearest]
    found = sorted(limits(of, given), key=lambda one: one.rate(dearest))
    rows: list[list[Cell]] = []
    for one in found:
        reached = scale(one.rate(dearest))
        rows.append(
            [
                *(one.what, one.number, one.source, one.then, _NAMES[reached] if reached else "none of them"),
                *(_rate(one.rate(work)) for work in (dearest, *others)),
            ]
        )
    note = (
        f"From the first to the last, all of it without cells. *By*: the first of the scales by which {dearest.what} "
        "has passed it. Rates are requests a second."
    )
    columns = ("gives way", "number", "known from", "what then", "by", *(work.what for work in (dearest, *others)))
    return Table("Where it breaks first", columns, rows, note, labels=5)


def _rate(value: float) -> str:
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value / 1e3:,.0f} k"


def gpus(of: Measured, given: Assumptions) -> Table:
    """How much of a request a GPU could take over at all."""
    rows: list[list[Cell]] = []
    for work in of.works:
        rest = work.best_us - work.graph_us
        host = given.node_cores / (rest * 1e-6)
        rows.append(
            [
                *(work.what, work.best_us, work.graph_us, rest, f"{work.best_us / rest:.2f}×"),
                *(_rate(host), work.graph_us * 1e-6 * host, given.gpu_hour_usd / given.core_hour_usd),
            ]
        )
    note = (
        "No GPU was measured: what stands here is how much there is to gain, by CPU figures alone. *Graph*: ONNX "
        "Runtime's part of the best case, batches of 64; of a text it is mostly splitting and looking up strings, "
        "which stay on the CPU, so that the true bound is lower. *Best a GPU could do*: the graph for nothing. "
        f"*Fed by a host*: requests a second that {given.node_cores} cores can parse, batch and "
        "answer. *Cores saved* against *cores for its price*: a GPU pays where the first is more than the second."
    )
    columns = ("", "µs a request", "graph", "the rest", "best a GPU could do", "fed by a host", "cores saved")
    return Table("What a GPU could take over", (*columns, "cores for its price"), rows, note)


def lessons(of: Measured, given: Assumptions) -> str:
    """What follows, as a list."""
    dearest = max(of.works, key=lambda work: work.planned_us)
    small, middle, large = (size(rate, dearest, of, given) for rate in SCALES)
    passed = [one.what for one in limits(of, given) if scale(one.rate(dearest)) == SCALES[2]]
    gain = dearest.best_us / (dearest.best_us - dearest.graph_us)
    points = [
        f"**10 thousand** requests a second are {SCALES[0] * dearest.planned_us * 1e-6:.2f} cores' work and "
        f"{small.pods} pods: what sets the number is that a zone may be lost. Nothing else is near a limit.",
        f"**1 million** are {middle.pods} pods on {middle.nodes} nodes, and one cell: one name, one Prometheus, no "
        f"proxy. {text(middle.pod_connections)} connections take {middle.connection_gib * 1024:.0f} MiB of each pod. "
        f"The bill is the network's: {middle.zone_usd / middle.core_usd:.0f} times the cores', if calls cross zones as "
        "they please. Keep them in their zone before anything else is made faster.",
        f"**100 million** are {text(large.cells)} such cells, not one large one. Without cells {_listed(passed)} would "
        "have given way. What is measured is one pod; that cells do not disturb one another is what makes the product "
        "hold, so give them nothing in common but the model packages.",
        f"**Balancing calls in proxies** costs about as many cores as answering them ({text(large.proxy_cores)} "
        f"against {text(large.pods)} at the largest scale, by assumption), which is why clients balance here.",
        f"**The network interface is never first**: a node's pods fill {middle.node_gbit / given.nic_gbit:.0%} of "
        f"{given.nic_gbit:g} Gbit/s.",
        f"**GPUs** are not for these models: a GPU that computed {dearest.what} for nothing would make it "
        f"{gain:.1f} times as cheap in cores, and its price buys {given.gpu_hour_usd / given.core_hour_usd:.0f} of "
        "them.",
    ]
    return "\n".join(f"- {point}" for point in points)


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words) or "nothing"
