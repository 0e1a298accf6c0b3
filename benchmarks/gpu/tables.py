"""The tables of docs/gpu.md, out of a record; where no GPU was measured they say so."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.crossover import Crossover, at_best, crossover
from benchmarks.gpu.estimate import WORDS, Assumptions, of_json, seconds
from benchmarks.stats import ratio
from benchmarks.tables import Cell, Table, text
from serving.engine.device import CUDA

NOT_MEASURED = "not measured: no GPU"
_RAN_THERE = "*ran there*: nodes that ran on the GPU, of all of the whole graph, by ONNX Runtime's own profile; "
_SHOWN = (1, 4, 16, 64, 256, 1024, 4096)
_ESTIMATED_AT = (1, 64, 4096)


def tables(record: dict[str, Any]) -> list[Table]:
    """All of them, in the order of the page; a rehearsal of the ways to run on a CPU is none."""
    seen = [ways(record)] if record["settings"]["gpu"] is not None else []
    return [anatomy(record), assumed(), inside(record), overtakes(record), *seen, through(record)]


def inside(record: dict[str, Any]) -> Table:
    """Microseconds a row, by graph, device and batch."""
    settings = record["settings"]
    sizes, cores, gpu = [size for size in settings["batches"] if size in _SHOWN], settings["cores"], settings["gpu"]
    rows: list[list[Cell]] = []
    for one in record["summary"]["inside"]:
        cpu = _by_rows(one["seconds"]["cpu"])
        rows.append([one["graph"], "CPU, one thread", *(cpu[size] / size * 1e6 for size in sizes)])
        rows.append(["", f"CPU, {cores} cores", *(1e6 / one["all_cores"][str(size)] for size in sizes)])
        if gpu is not None:
            cuda = _by_rows(one["seconds"]["gpu"])
            rows.append(["", gpu, *(cuda[size] / size * 1e6 for size in sizes)])
            rows.append(["", f"{gpu} ÷ one thread", *(ratio(cuda[size], cpu[size]) for size in sizes)])
    if gpu is None:
        rows.append(["all", f"CUDA {NOT_MEASURED}", *(None for _ in sizes)])
    note = (
        "Microseconds a row by rows in a batch, medians of runs from Python in one process, as the server makes its "
        "sessions; copies to the device and back are in it, building the batch is not. More sizes are in "
        "`benchmarks/results/gpu.json`. "
        f"What runs alone takes turns, run by run. *{cores} cores*: as many processes at once, each with one thread, "
        f"as `--workers` uses them, and what they do together. Inputs: {_inputs(settings)}. *{_wide(record)}*: the "
        "same graph with so many units in each hidden layer and weights drawn at random, on whose values speed does "
        f"not depend.{_why(settings)}"
    )
    return Table("In process", ("graph", "µs a row in batches of", *(f"{size:,}" for size in sizes)), rows, note, 2)


def overtakes(record: dict[str, Any]) -> Table:
    """From which batch on a GPU is faster: by an estimate, and measured where there was one."""
    settings = record["settings"]
    rows: list[list[Cell]] = []
    for one in record["summary"]["inside"]:
        cpu = at_best(_by_rows(one["seconds"]["cpu"]))
        shared = at_best({size: size / one["all_cores"][str(size)] for size in cpu})
        measured: list[Cell] = []
        if settings["gpu"] is not None:
            cuda = at_best(_by_rows(one["seconds"]["gpu"]))
            alone = crossover({size: (cpu[size], cuda[size]) for size in cpu})
            against_all = crossover({size: (shared[size], cuda[size]) for size in cpu})
            measured = [str(alone), str(against_all), alone.gain]
        guessed = at_best(_estimates(one))
        alone = crossover({size: (cpu[size], guessed[size]) for size in cpu})
        against_all = crossover({size: (shared[size], guessed[size]) for size in cpu})
        rows.append([one["graph"], *measured, _guess(alone), _guess(against_all), alone.gain])
    largest = settings["batches"][-1]
    note = (
        "Rows that wait together from which on the GPU takes less time for them than the CPU, and does so at every "
        "larger number that was measured; between two of these, the ratio's logarithm is taken for a straight line "
        "over that of the rows. Each takes them in the batches that suit it best, as the server does. "
        f"*{settings['cores']} cores*: all of this machine, each with rows of its own. ×: the CPU's one thread by the "
        f"GPU at {largest:,} rows. **What is called an estimate** is made from the CPU's measured time and the "
        f"assumptions above, and no measurement of anything.{_why(settings)}"
    )
    kinds = ("one thread", f"{settings['cores']} cores", "×")
    columns = ("graph", *(kinds if settings["gpu"] is not None else ()), *(f"estimate: {kind}" for kind in kinds))
    return Table("Where a GPU overtakes the CPU", columns, rows, note)


def gains(record: dict[str, Any]) -> dict[str, float]:
    """How many cores' work a GPU does at the largest batch, by graph: measured where there was one, else estimated."""
    table = overtakes(record)
    column = table.columns.index("×" if record["settings"]["gpu"] is not None else "estimate: ×")
    return {str(row[0]): float(row[column] or math.nan) for row in table.rows}


def anatomy(record: dict[str, Any]) -> Table:
    """What of each graph a GPU could do."""
    rows: list[list[Cell]] = []
    sizes = [size for size in _ESTIMATED_AT if size in record["settings"]["batches"]]
    seen = record["settings"]["gpu"] is not None
    for one in record["summary"]["inside"]:
        of, guessed = of_json(one["anatomy"]), _estimates(one)
        row_seconds, stays = row_cost(one)
        rows.append(
            [
                *(one["graph"], *(guessed[size] / size * 1e6 for size in sizes), row_seconds * 1e6, f"{stays:.0%}"),
                *(of.nodes, *([_placed(one)] if seen else []), of.copies, of.flop_per_row / 1e3),
                *(of.weight_bytes / 1e3, of.tensor_bytes_per_row / 1e3, of.moved_bytes_per_row / 1e3),
            ]
        )
    note = (
        "Of a text graph everything behind the words: splitting text and looking words up have no kernel on a GPU. "
        "*CPU*: measured, one thread, at its best batch; *stays*: the share of it that splitting and looking up take, "
        "which no GPU takes over. **Estimate**: that, measured at each batch, and the rest by the assumptions below. "
        f"*Kernels*: nodes left by ONNX Runtime's basic optimisation, so at most; {_RAN_THERE if seen else ''}"
        "*operations*: multiplications and additions of products with matrices; *tensors*: written and read between "
        "nodes."
    )
    columns = ("graph", *(f"estimate, µs a row in {size:,}" for size in sizes), "CPU, µs a row", "stays", "kernels")
    rest = ("copies", "10³ operations a row", "weights, kB", "tensors, kB a row", "moved, kB a row")
    return Table("What a GPU would have to do", (*columns, *(("ran there",) if seen else ()), *rest), rows, note)


def row_cost(one: Mapping[str, Any]) -> tuple[float, float]:
    """CPU seconds of a row of a graph, at the batch that suits it best, and the share that no GPU takes over."""
    cpu, front = _by_rows(one["seconds"]["cpu"]), _front(one)
    rows = min(cpu, key=lambda size: cpu[size] / size)
    return cpu[rows] / rows, ratio(front[rows], cpu[rows])


def assumed() -> Table:
    """What the estimate rests on."""
    given = Assumptions()
    rows: list[list[Cell]] = [[f"`{name}`", what, f"{getattr(given, name):g}"] for name, what in WORDS.items()]
    note = (
        "Round figures of the order of NVIDIA's data sheets, not measured here. Put in your own: they are the fields "
        "of `Assumptions` in `benchmarks/gpu/estimate.py`, and `python -m benchmarks --show gpu` writes this page anew."
    )
    return Table("What the estimate assumes", ("name", "what it is", "value"), rows, note, labels=2)


def ways(record: dict[str, Any]) -> Table:
    """Ways to run a session beside the plain one, on a GPU."""
    rows: list[list[Cell]] = []
    skipped: dict[tuple[str, str], list[str]] = {}
    for one in record["summary"]["ways"]:
        if one["skipped"]:
            skipped.setdefault((one["way"], one["skipped"]), []).append(one["graph"])
            continue
        each = [one["plain_seconds"] * 1e6, one["seconds"] * 1e6, ratio(one["seconds"], one["plain_seconds"])]
        rows.append([one["way"], one["graph"], f"{one['rows']:,}", *each])
    of = {one["graph"] for one in record["summary"]["ways"]}
    for (way, reason), names in skipped.items():
        rows.append([way, "all" if len(names) == len(of) else "; ".join(names), f"skipped: {reason}", None, None, None])
    note = (
        f"On {record['settings']['gpu']}. Medians of a run, the two taking turns; below 1 is faster than the server's "
        "plain run."
    )
    columns = ("way", "graph", "rows", "plain, µs a run", "so, µs a run", "so ÷ plain")
    rows.sort(key=lambda row: str(row[0]))
    return Table("Ways to run a session", columns, rows, note, labels=3)


def rehearsed(record: dict[str, Any]) -> str:
    """What there is to say of the ways to run where no GPU has measured them."""
    found: dict[str, list[str]] = {}
    for one in record["summary"]["ways"]:
        found.setdefault(one["way"], []).append(one["skipped"])
    failed = sorted(way for way, reasons in found.items() if any(reason.startswith("failed") for reason in reasons))
    skipped = sorted(way for way, reasons in found.items() if all(reasons) and way not in failed)
    ran = sorted(set(found) - {*failed, *skipped})
    kinds = [(ran, "these ran and answered as the plain run does"), (skipped, "skipped"), (failed, "**failed**")]
    told = "; ".join(f"{what}: {', '.join(names)}" for names, what in kinds if names)
    return (
        "No GPU has measured any of them. On the CPU, as a rehearsal whose times (`benchmarks/results/gpu.json`) say "
        f"nothing of a GPU, {told}."
    )


def through(record: dict[str, Any]) -> Table:
    """Through gRPC."""
    settings, summary = record["settings"], record["summary"]
    ceilings = {one["graph"]: one for one in summary["inside"]}
    seen = settings["gpu"] is not None
    rows: list[list[Cell]] = []
    for one in sorted(summary["through"], key=lambda one: (one["model"], one["instances"], one["in_flight"])):
        on = "gpu" if seen and one["server"].startswith(settings["gpu"]) else "cpu"
        best = max(int(size) / taken for size, taken in ceilings[one["model"]]["seconds"][on].items())
        per_second = one["per_second"] * one["instances"]
        rows.append(
            [
                *(one["model"], one["server"], one["instances"], one["in_flight"], one["per_second"], per_second),
                *(one["p50_ms"], one["p99_ms"], one["cpu_us"], one["batch_rows"], f"{per_second / best:.0%}"),
                *(_used(one) if seen else ()),
            ]
        )
    if not seen:
        rows.append(["all", f"cuda {NOT_MEASURED}", *(None for _ in range(9))])
    flags = "; ".join(f"{name}: `{' '.join(given)}`" for name, given in settings["servers"].items())
    busiest = max(one["client_cores"] for one in summary["through"])
    note = (
        f"The server as a process ({flags}), version 1 of each model, asked by the typed API in a closed loop for "
        f"{settings['load_seconds']:g} s, medians of {settings['rounds']} rounds; servers take turns; "
        f"{settings['placed']}. The clients are processes of our own over plain sockets (`benchmarks/gpu/client.py`), "
        f"which send different requests in turn and kept {busiest:.2f} cores busy at most. *CPU*: of the server, for "
        "a request, text rules included. *Share*: of the rows a second that one session reaches in process at its best "
        "batch. A server takes batches of at most 256 rows unless told otherwise, and fewer where a larger one gains "
        f"nothing.{' GPU: the highest utilisation and memory that `/metrics` showed.' if seen else ''}"
    )
    columns = ("model", "server", "instances", "in flight", "req/s", "rows/s", "p50 ms", "p99 ms", "CPU µs")
    gpu = ("GPU busy", "GPU MiB") if seen else ()
    return Table("Through gRPC", (*columns, "rows/batch", "share", *gpu), rows, note, labels=2)


def _by_rows(found: Mapping[str, float]) -> dict[int, float]:
    return {int(rows): value for rows, value in found.items()}


def _front(one: Mapping[str, Any]) -> dict[int, float]:
    """Seconds of what stays on the CPU."""
    given = one["seconds"].get("front")
    return _by_rows(given) if given else dict.fromkeys(_by_rows(one["seconds"]["cpu"]), 0.0)


def _placed(one: Mapping[str, Any]) -> str | None:
    """Nodes on the GPU, of all; nothing where there was none."""
    there = one["placed"].get(CUDA)
    return None if there is None else f"{there} of {sum(one['placed'].values())}"


def _used(one: Mapping[str, Any]) -> list[Cell]:
    """Of the GPU, where that is known."""
    busy, memory = one["gpu_utilization"], one["gpu_memory_bytes"]
    return [None if busy is None else f"{busy:.0%}", None if memory is None else memory / 2**20]


def _estimates(one: Mapping[str, Any]) -> dict[int, float]:
    of, given = of_json(one["anatomy"]), Assumptions()
    return {rows: seconds(of, rows, front, given) for rows, front in _front(one).items()}


def _guess(found: Crossover) -> str:
    """An estimate has no digits to speak of."""
    if found.rows is None:
        return str(found)
    digits = -math.floor(math.log10(found.rows))
    return f"about {round(found.rows, digits):,.0f} rows"


def _inputs(settings: Mapping[str, Any]) -> str:
    kinds: dict[str, list[str]] = {}
    for name, what in settings["inputs"].items():
        kinds.setdefault(what, []).append(name.partition("/")[0])
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {what}" for what, names in kinds.items())


def _wide(record: Mapping[str, Any]) -> str:
    names = [one["graph"].partition(", ")[2] for one in record["summary"]["inside"]]
    return next((name for name in names if name), text(None))


def _why(settings: Mapping[str, Any]) -> str:
    return f" No GPU was measured: {settings['no_gpu']}." if settings["gpu"] is None else ""
