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
_ESTIMATED_AT = (1, 64, 4096)


def tables(record: dict[str, Any]) -> list[Table]:
    """All of them."""
    return [inside(record), overtakes(record), anatomy(record), assumed(), ways(record), through(record)]


def inside(record: dict[str, Any]) -> Table:
    """Microseconds a row, by graph, device and batch."""
    settings = record["settings"]
    sizes, cores, gpu = settings["batches"], settings["cores"], settings["gpu"]
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
        "sessions; copies to the device and back are in it, building the batch is not. What runs alone takes turns, "
        f"run by run. *{cores} cores*: as many processes at once, each with one thread, as `--workers` uses them, and "
        f"what they do together. Inputs: {_inputs(settings)}. *{_wide(record)}*: the same graph with so many units in "
        "each hidden layer and weights drawn at random, on whose values speed does not depend."
        f"{_why(settings)}"
    )
    return Table("In process", ("graph", "µs a row in batches of", *(f"{size:,}" for size in sizes)), rows, note, 2)


def overtakes(record: dict[str, Any]) -> Table:
    """From which batch on a GPU is faster, measured and estimated."""
    settings = record["settings"]
    rows: list[list[Cell]] = []
    for one in record["summary"]["inside"]:
        cpu = at_best(_by_rows(one["seconds"]["cpu"]))
        shared = at_best({size: size / one["all_cores"][str(size)] for size in cpu})
        measured: list[Cell] = [NOT_MEASURED, NOT_MEASURED, None]
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
        f"GPU at {largest:,} rows. **The last three columns are an estimate**, made from the CPU's measured time and "
        "the assumptions below, and no measurement of anything."
    )
    cores = f"{settings['cores']} cores"
    columns = ("graph", "one thread", cores, "×", "estimate: one thread", f"estimate: {cores}", "estimate: ×")
    return Table("Where a GPU overtakes the CPU", columns, rows, note)


def anatomy(record: dict[str, Any]) -> Table:
    """What of each graph a GPU could do."""
    rows: list[list[Cell]] = []
    sizes = [size for size in _ESTIMATED_AT if size in record["settings"]["batches"]]
    for one in record["summary"]["inside"]:
        of, guessed = of_json(one["anatomy"]), _estimates(one)
        cpu, front = _by_rows(one["seconds"]["cpu"]), _front(one)
        best = min(cpu, key=lambda size: cpu[size] / size)
        rows.append(
            [
                *(one["graph"], of.nodes, _placed(one), of.copies, of.flop_per_row / 1e3, of.weight_bytes / 1e3),
                *(of.tensor_bytes_per_row / 1e3, of.moved_bytes_per_row / 1e3),
                *(cpu[best] / best * 1e6, f"{ratio(front[best], cpu[best]):.0%}"),
                *(guessed[size] / size * 1e6 for size in sizes),
            ]
        )
    note = (
        "Of a text graph everything behind the words: splitting text and looking words up have no kernel on a GPU. "
        "*Kernels*: nodes left by ONNX Runtime's basic optimisation, so at most; *ran there*: nodes that ran on the "
        "GPU, of all of the whole graph, by ONNX Runtime's own profile. *Operations*: multiplications and additions of "
        "products with matrices. *Tensors*: written and read between nodes. *CPU*: measured, one thread, at its best "
        "batch; *stays*: the share of it that splitting and looking up take, which no GPU takes "
        "over. **Estimate**: that, measured at each batch, and the rest by the assumptions below."
    )
    columns = ("graph", "kernels", "ran there", "copies", "10³ operations a row", "weights, kB", "tensors, kB a row")
    return Table(
        "What a GPU would have to do",
        (*columns, "moved, kB a row", "CPU, µs a row", "stays", *(f"estimate, µs a row in {size:,}" for size in sizes)),
        rows,
        note,
    )


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
    """Ways to run a session beside the plain one."""
    settings = record["settings"]
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
    where = settings["gpu"] or f"the CPU, as a rehearsal: that it works is all that this says (CUDA {NOT_MEASURED})"
    note = f"On {where}. Medians of a run, the two taking turns; below 1 is faster than the server's plain run."
    columns = ("way", "graph", "rows", "plain, µs a run", "so, µs a run", "so ÷ plain")
    rows.sort(key=lambda row: str(row[0]))
    return Table("Ways to run a session", columns, rows, note, labels=3)


def through(record: dict[str, Any]) -> Table:
    """Through gRPC."""
    settings, summary = record["settings"], record["summary"]
    ceilings = {one["graph"]: one for one in summary["inside"]}
    rows: list[list[Cell]] = []
    for one in sorted(summary["through"], key=lambda one: (one["model"], one["instances"], one["in_flight"])):
        on = "gpu" if settings["gpu"] is not None and one["server"].startswith(settings["gpu"]) else "cpu"
        best = max(int(size) / taken for size, taken in ceilings[one["model"]]["seconds"][on].items())
        per_second = one["per_second"] * one["instances"]
        rows.append(
            [
                *(one["model"], one["server"], one["instances"], one["in_flight"], one["per_second"], per_second),
                *(one["p50_ms"], one["p99_ms"], one["cpu_us"], one["batch_rows"], f"{per_second / best:.0%}"),
                None if one["gpu_utilization"] is None else f"{one['gpu_utilization']:.0%}",
                None if one["gpu_memory_bytes"] is None else one["gpu_memory_bytes"] / 2**20,
            ]
        )
    if settings["gpu"] is None:
        rows.append(["all", f"cuda {NOT_MEASURED}", *(None for _ in range(11))])
    flags = "; ".join(f"{name}: `{' '.join(given)}`" for name, given in settings["servers"].items())
    busiest = max(one["client_cores"] for one in summary["through"])
    note = (
        f"The server as a process ({flags}), version 1 of each model, asked by the typed API in a closed loop for "
        f"{settings['load_seconds']:g} s, medians of {settings['rounds']} rounds; servers take turns; "
        f"{settings['placed']}. The clients are processes of our own over plain sockets (`benchmarks/gpu/client.py`), "
        f"which send different requests in turn and kept {busiest:.2f} cores busy at most. *CPU*: of the server, for "
        "a request, text rules included. *Share*: of the rows a second that one session reaches in process at its best "
        "batch. A server takes batches of at most 256 rows unless told otherwise, and fewer where a larger one gains "
        "nothing. GPU: the highest utilisation and memory that `/metrics` showed."
    )
    columns = ("model", "server", "instances", "in flight", "req/s", "rows/s", "p50 ms", "p99 ms", "CPU µs")
    return Table("Through gRPC", (*columns, "rows/batch", "share", "GPU busy", "GPU MiB"), rows, note, labels=2)


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
