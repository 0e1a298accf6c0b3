"""CPU against CUDA, batch by batch, in process and through gRPC; without a GPU the CPU's side alone."""

import dataclasses
import statistics
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.gpu import estimate, graphs, inprocess, through, variants
from benchmarks.gpu.inputs import MODELS, Inputs, load
from benchmarks.gpu.page import NAME, PAGE, remark
from benchmarks.gpu.tables import tables
from benchmarks.machine import Others, pinned, usable_cores
from benchmarks.scrape import parse
from benchmarks.servers import Server, ServerFailed, real_server
from benchmarks.session import Session
from benchmarks.stats import median
from serving.engine import device as devices
from serving.engine.device import Device, DeviceError
from serving.engine.session import Feed
from serving.engine.session import Session as Graph
from serving.telemetry.gpu import INFO

__all__ = ["NAME", "PAGE", "remark", "run", "tables"]

BATCHES = tuple(2**power for power in range(13))
"""Rows: 1 to 4,096."""
_QUICK_BATCHES = (1, 16, 256)
_VARIANT_BATCHES = (1, 64, 1024)
_IN_FLIGHT = {1: (1, 64, 1024), 64: (1, 16, 64)}
"""Requests, by instances in each; together no more than a server lets wait (`--max-queue-rows`)."""
_DIFFERENT, _FEWEST_MESSAGES = 256, 4
"""Instances in all requests of one kind, and requests."""
_FEW_CORES = 3
_LARGE_BATCHES = 4096

_SHIPPED = ("house_price/1", "house_price/2", "sentiment/1", "sentiment/2", "topic/1", "topic/2")
_WIDENED = ("house_price/1", "sentiment/1", "topic/1")
_VARIED = ("house_price/1", "house_price/1, 512 units", "sentiment/1", "sentiment/1, 512 units", "sentiment/2")


@dataclass(frozen=True)
class Case:
    """One graph."""

    name: str
    model: bytes
    inputs: Inputs


@dataclass(frozen=True)
class Load:
    """One kind of requests, and how many at once."""

    model: str
    method: str
    messages: list[bytes]
    instances: int
    in_flight: int


def run(session: Session) -> dict[str, Any]:
    """In process, then the ways to run, then through gRPC.

    Raises:
        ServerFailed: a device was asked for by name and can't be had, or a server did not start.
    """
    gpu, reason = _gpu(session)
    cases = _cases(session)
    servers = _servers(gpu, session)
    loads = _loads(session, {case.name: case.inputs for case in cases})
    rounds = int(session.pick(2, 1))
    varied = [case for case in cases if case.name in _VARIED]
    settings: dict[str, Any] = {
        "quick": session.quick,
        "gpu": gpu,
        "no_gpu": reason,
        "batches": list(_QUICK_BATCHES if session.quick else BATCHES),
        "cores": len(usable_cores()),
        "seconds": session.pick(0.2, 0.02),
        "load_seconds": session.pick(1.0, 0.3),
        "rounds": rounds,
        "inputs": {case.name: case.inputs.what for case in cases},
        "servers": {name: list(flags) for name, flags in servers.items()},
        "placed": str(session.cores) if _is_small() else "clients and servers shared the cores as the system saw fit",
    }
    raw: list[dict[str, Any]] = []
    steps = len(cases) + len(varied) + rounds * len(loads)
    with session.reporter.benchmark(NAME, steps):
        with inprocess.all_cores(settings["cores"]) as every_core:
            inside = [_inside(session, case, gpu, settings, every_core, raw) for case in cases]
        ways = [found for case in varied for found in _ways(session, case, gpu)]
        with ExitStack() as stack:
            core = session.cores.server if _is_small() else None
            running = {name: stack.enter_context(real_server(core, None, *flags)) for name, flags in servers.items()}
            settings["gpu_name"] = _gpu_name(running[gpu]) if gpu is not None else ""
            for number in range(rounds):
                for load_ in loads:
                    raw += _load(session, number, load_, running)
    summary = {"inside": inside, "ways": ways, "through": _medians(raw)}
    return {"settings": settings, "summary": summary, "rounds": raw}


def _gpu(session: Session) -> tuple[str | None, str]:
    """The GPU to measure, and if there is none, why."""
    wanted = session.devices or ("cpu", "cuda:0")
    gpus = [name for name in wanted if name != "cpu"]
    if len(gpus) > 1:
        raise ServerFailed(f"{', '.join(gpus)}: one GPU is measured at a time")
    if not gpus:
        return None, "only the CPU was asked for"
    try:
        if inprocess.device(gpus[0]).index is None:
            raise ServerFailed(f"{gpus[0]} is the CPU here: expected cpu, or cpu,cuda:I")
    except (DeviceError, ValueError) as error:
        if session.devices:
            raise ServerFailed(str(error)) from error
        return None, devices.cuda_problem(0) or str(error)
    return gpus[0], ""


def _gpu_name(server: Server) -> str:
    """What its maker calls it, where NVML says so."""
    names = [dict(labels)["name"] for name, labels in parse(server.metrics_text()) if name == INFO]
    return names[0] if names else "of a kind that NVML does not tell"


def _is_small() -> bool:
    """So few cores that server and clients must be kept apart."""
    return len(usable_cores()) <= _FEW_CORES


def _cases(session: Session) -> list[Case]:
    shipped = _WIDENED[:2] if session.quick else _SHIPPED
    found = {name: load(MODELS / name, session.data) for name in shipped}
    wider = [name for name in _WIDENED if name in found][: 1 if session.quick else None]
    return [
        *(Case(name, inputs.model, inputs) for name, inputs in found.items()),
        *(Case(f"{name}, {graphs.WIDE} units", graphs.widened(found[name].model), found[name]) for name in wider),
    ]


def _servers(gpu: str | None, session: Session) -> dict[str, tuple[str, ...]]:
    """Flags of each server that is measured, by what it is called."""
    found: dict[str, tuple[str, ...]] = {"cpu": ("--device", "cpu")}
    if not _is_small() and not session.quick:
        workers = len(usable_cores()) // 2
        found[f"cpu, {workers} workers"] = ("--device", "cpu", "--workers", str(workers))
    if gpu is not None:
        found[gpu] = ("--device", gpu)
        found[f"{gpu}, batches of {_LARGE_BATCHES:,}"] = ("--device", gpu, "--max-batch-rows", str(_LARGE_BATCHES))
    return found


def _inside(
    session: Session,
    case: Case,
    gpu: str | None,
    settings: dict[str, Any],
    every_core: inprocess.AllCores,
    raw: list[dict[str, Any]],
) -> dict[str, Any]:
    """Every batch size of one graph: device against device in turns; then the CPU with all cores."""
    cpu = inprocess.device("cpu")
    graph = {"cpu": Graph(case.model, cpu)}
    if gpu is not None:
        graph["gpu"] = Graph(case.model, inprocess.device(gpu))
    if (words := graphs.cuts(case.model).get("words")) is not None:
        graph["front"] = Graph(graphs.split(case.model, words).front, cpu)
    feeds = {rows: inprocess.batches(case.inputs.feed, rows) for rows in settings["batches"]}
    others, used = Others(), used_seconds()
    seconds: dict[str, dict[str, float]] = {name: {} for name in graph}
    for rows, some in feeds.items():
        runs = {
            name: inprocess.plain(one, [{key: feed[key] for key in one.inputs} for feed in some])
            for name, one in graph.items()
        }
        for name, taken in inprocess.interleaved(runs, settings["seconds"]).items():
            seconds[name][str(rows)] = statistics.median(taken)
    together = every_core.measure(case.model, feeds, settings["seconds"])
    raw.append({"graph": case.name, "other_cores": others.cores(used_seconds() - used)})
    found = {
        "graph": case.name,
        "seconds": seconds,
        "all_cores": {str(rows): rate for rows, rate in together.items()},
        "placed": _placed(case, inprocess.device(gpu or "cpu"), feeds[settings["batches"][-1]][0]),
        "anatomy": estimate.as_json(estimate.anatomy(case.model, case.inputs)),
    }
    last = str(settings["batches"][-1])
    session.reporter.step(f"{case.name}: {seconds['cpu'][last] / int(last) * 1e6:.2f} µs a row in batches of {last}")
    return found


def _placed(case: Case, device: Device, feed: Feed) -> dict[str, int]:
    """How many nodes ran on each of ONNX Runtime's providers."""
    graph = Graph(case.model, device, profiled=True)
    graph.run(list(graph.outputs), feed)
    return {provider: operators.total() for provider, operators in graph.placement().nodes.items()}


def _ways(session: Session, case: Case, gpu: str | None) -> list[dict[str, Any]]:
    """The ways to run, at a few batch sizes."""
    device = inprocess.device(gpu or "cpu")
    found = []
    for name in variants.NAMES:
        for rows in (16,) if session.quick else _VARIANT_BATCHES:
            outcome = variants.measure(name, case.model, case.inputs, device, rows, session.pick(0.2, 0.02))
            found.append({"graph": case.name, "way": name, "rows": rows, **dataclasses.asdict(outcome)})
            if outcome.skipped:
                break
    session.reporter.step(f"{case.name}: ways to run")
    return found


def _loads(session: Session, inputs: dict[str, Inputs]) -> list[Load]:
    found: list[Load] = []
    for model in _WIDENED[:1] if session.quick else _WIDENED:
        for instances, several in _IN_FLIGHT.items():
            kinds = max(_FEWEST_MESSAGES, _DIFFERENT // instances)
            messages = [inputs[model].message(instances, kind * instances) for kind in range(kinds)]
            found += [
                Load(model, inputs[model].method, messages, instances, in_flight)
                for in_flight in (several[1:2] if session.quick else several)
            ]
    return found


def _load(session: Session, number: int, load_: Load, running: dict[str, Server]) -> list[dict[str, Any]]:
    """One kind of load on each server in turn."""
    seconds = session.pick(1.0, 0.3)
    clients = 1 if _is_small() else max(1, len(usable_cores()) // 2)
    found = []
    for name, server in running.items():
        others, used = Others(), used_seconds()
        with pinned(session.cores.load if _is_small() else None):
            figures = through.measure(
                *(server.address, load_.method, load_.messages, load_.in_flight, seconds, server.metrics_url),
                clients=clients,
            )
        busy = others.cores(used_seconds() - used)
        what = {"model": load_.model, "instances": load_.instances, "in_flight": load_.in_flight, "server": name}
        found.append({"round": number + 1, **what, **dataclasses.asdict(figures), "other_cores": busy})
        session.reporter.step(
            f"round {number + 1}, {load_.model}, {load_.instances} in each of {load_.in_flight}, {name}: "
            f"{figures.per_second * load_.instances:,.0f} rows/s"
        )
    return found


def used_seconds() -> float:
    """CPU time so far of this process and of all that it started: workers, servers, clients that ended."""
    this, found = psutil.Process(), 0.0
    for one in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += sum(one.cpu_times()[:4])  # user and system, its own and its ended children's
    return found


def _medians(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the rounds of each load on each server."""
    keys = ("model", "instances", "in_flight", "server")
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in raw:
        if "server" in one:
            cells.setdefault(tuple(one[key] for key in keys), []).append(one)
    names = [field.name for field in dataclasses.fields(through.Figures)]
    return [
        {
            **dict(zip(keys, key, strict=True)),
            **{
                name: None if any(one[name] is None for one in several) else median(one[name] for one in several)
                for name in names
            },
        }
        for key, several in cells.items()
    ]
