"""The ceiling: the models themselves, in this process, on one thread, with no server around them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.machine import pinned
from benchmarks.payloads import Payload
from benchmarks.servers import REPOSITORY
from protos.prediction.v1 import prediction_pb2 as pb
from serving.engine import device
from serving.engine.assemble import Assembler
from serving.engine.batcher import Batch
from serving.engine.engine import Runner
from serving.engine.request import Request, Rows
from serving.package.manifest import InputSpec
from serving.repository import disk, verify
from serving.repository.verify import encode

BATCHES = (1, 64)

_MODELS = REPOSITORY / "models"


def measure(payload: Payload, core: int | None, seconds: float) -> dict[str, Any]:
    """Rows a second at each batch size: of the graph alone, and with building its inputs from normalised rows."""
    runner = _runner(payload.model)
    rows = _rows(payload, runner.manifest.inputs[0])
    assemble = Assembler(runner.manifest.inputs)
    outputs = [spec.name for spec in runner.manifest.outputs]
    found: dict[str, Any] = {}
    for size in BATCHES:
        batch = _batch(rows, size)
        graph = partial(runner.session.run, outputs, assemble(batch.pieces))
        with pinned(core):
            found[str(size)] = {
                "graph_rows_per_second": size * _per_second(graph, seconds),
                "engine_rows_per_second": size * _per_second(partial(runner, batch), seconds),
            }
    return found


def _runner(model: str) -> Runner:
    newest, folder = max(disk.scan(_MODELS)[model].items())
    return verify.load(disk.read(_MODELS, folder, model, newest), device.choose("cpu"), max(BATCHES)).runner


def _rows(payload: Payload, spec: InputSpec) -> list[Rows]:
    """Each message's row as it reaches the engine."""
    if payload.model == "house_price":
        names = [field.name for field in pb.House.DESCRIPTOR.fields]
        houses = [pb.PredictHousePriceRequest.FromString(message).houses[0] for message in payload.messages]
        return [encode(spec, [[getattr(house, name) for name in names]]) for house in houses]
    texts = [pb.PredictSentimentRequest.FromString(message).reviews[0] for message in payload.messages]
    return [encode(spec, [text]) for text in texts]


def _batch(rows: list[Rows], size: int) -> Batch:
    requests = [Request([rows[number % len(rows)]], 1, 1, 0.0, lambda *_: None) for number in range(size)]
    return Batch([(request, 0, 1) for request in requests], size, size, "full")


def _per_second(call: Callable[[], Any], seconds: float) -> float:
    call()
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        call()
        count += 1
    return count / passed
