"""Model packages to try things on: copies of the shipped ones, to be damaged, and tiny graphs made here."""

import asyncio
import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.api.tasks import TASKS
from serving.engine.batcher import Limits
from serving.engine.device import CPU, Device
from serving.package.manifest import (
    FileDigest,
    Golden,
    InputSpec,
    Manifest,
    OutputSpec,
    TextRules,
    Tolerance,
    digest,
)
from serving.repository import verify
from serving.repository.control import Control, Mode
from serving.repository.disk import Package
from serving.repository.loader import TryOut
from serving.repository.models import Models
from serving.repository.routing import Fleet
from serving.repository.verify import Loaded
from serving.telemetry.metrics import Metrics

SHIPPED = Path(__file__).parents[2] / "models"
NAMES = ("house_price", "sentiment", "topic")
EVERY = [(name, version) for name in NAMES for version in (1, 2)]
"""Name and version of each that ships."""

SMALL = Limits(max_batch_rows=8, max_queue_rows=64)


@functools.cache
def first_versions() -> Path:
    """A folder of version 1 of each shipped model: what answers does not change when a better one ships."""
    folder = Path(tempfile.mkdtemp(prefix="triptych-models-"))
    atexit.register(shutil.rmtree, folder)
    for name in NAMES:
        copy(folder, name)
    return folder


def copy(models: Path, name: str = "house_price", version: int = 1) -> Path:
    """The shipped package `name`, copied into `models` as `version`."""
    folder = models / name / str(version)
    shutil.copytree(SHIPPED / name / "1", folder)
    if version != 1:
        edit(folder, lambda manifest: manifest.update(version=version))
    return folder


_load = verify.load
_loaded: dict[tuple[str, str, int], Loaded] = {}


def load_once(package: Package, device: Device, max_batch_rows: int) -> Loaded:
    """`verify.load`, but the same package only once: sessions keep nothing, and what is known of cost is copied."""
    key = (package.digest, repr(device), max_batch_rows)
    if key not in _loaded:
        _loaded[key] = _load(package, device, max_batch_rows)
    return _loaded[key]._replace(cost=deepcopy(_loaded[key].cost))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a package's manifest, as plain JSON."""
    path = folder / "model.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_model(folder: Path, model: bytes) -> None:
    """Give a package another model file, with the right checksum."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    found = digest(path)
    edit(
        folder,
        lambda manifest: manifest["files"].update({"model.onnx": {"bytes": found.bytes, "sha256": found.sha256}}),
    )


def change_graph(folder: Path, change: Callable[[onnx.GraphProto], object]) -> None:
    """Change a package's graph, and set its checksum right."""
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    replace_model(folder, model.SerializeToString())


def graph(
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    constants: dict[str, npt.NDArray[Any]] | None = None,
) -> bytes:
    """A graph of float tensors; nodes as (operator, inputs, outputs, attributes)."""

    def infos(tensors: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]

    made = helper.make_graph(
        [helper.make_node(operator, *names, **attributes) for operator, *names, attributes in nodes],
        "tiny",
        infos(inputs),
        infos(outputs),
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


DOUBLE = graph([("Add", ["x", "x"], ["y"], {})], {"x": ["N", 2]}, {"y": ["N", 2]})
"""y = 2x over rows of two."""

FRAGILE = graph(
    [
        ("Slice", ["features", "start", "stop", "axis"], ["first"], {}),
        ("Cast", ["first"], ["index"], {"to": TensorProto.INT64}),
        ("Gather", ["table", "index"], ["price"], {}),
    ],
    {"features": ["N", 13]},
    {"price": ["N", 1]},
    {
        "start": np.array([0]),
        "stop": np.array([1]),
        "axis": np.array([1]),
        "table": np.array([7.0, 8.0], np.float32),
    },
)
"""Prices a house by its crime rate: 7 for 0, 8 for 1; any other fails the whole run."""


def manifest(**changes: Any) -> Manifest:
    """A manifest that fits `DOUBLE`, changed."""
    fields: dict[str, Any] = {
        "format": 1,
        "name": "double",
        "version": 1,
        "task": "regression",
        "inputs": (InputSpec("x", "FP32", (-1, 2)),),
        "outputs": (OutputSpec("y", "FP32", (-1, 2)),),
        "labels": (),
        "metrics": {},
        "provenance": {},
        "files": {"model.onnx": FileDigest(len(DOUBLE), "0" * 64)},
        "golden": Golden({CPU: Tolerance(1e-6, 1e-6)}, {"x": [[1.0, 2.0]]}, {"y": [[2.0, 4.0]]}),
    }
    return Manifest(**fields | changes)


def text_manifest(to_space: str = ".,", *, lowercase: bool = True) -> Manifest:
    """A manifest of a text model."""
    return manifest(
        inputs=(InputSpec("text", "BYTES", (-1,), TextRules(lowercase, to_space), "flat"),),
        golden=Golden({CPU: Tolerance(0, 0)}, {"text": ["a"]}, {"y": [[1.0, 2.0]]}),
    )


def double_prices(folder: Path) -> None:
    """Make a house price package another one, whose answers tell which it is."""

    def change(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "half"
        graph.node.append(helper.make_node("Add", ["half", "half"], ["price"], name="double"))

    change_graph(folder, change)
    edit(folder, lambda m: m["golden"]["outputs"].update(price=[[2 * p] for [p] in m["golden"]["outputs"]["price"]]))


def copy_fragile(models: Path) -> Path:
    """A package that is served as house_price but runs `FRAGILE`."""
    folder = copy(models)
    replace_model(folder, FRAGILE)
    golden = {"inputs": {"features": [[0.0] * 13, [1.0] * 13]}, "outputs": {"price": [[7.0], [8.0]]}}
    edit(folder, lambda manifest: manifest["golden"].update(golden))
    return folder


def copy_endless(models: Path) -> Path:
    """A package that is a house_price to look at, and never comes to an end."""
    folder = copy(models)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Neg", ["state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["N", 1]),
        ],
    )
    made = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["features"], ["first"], axes=[1], keepdims=1),
            helper.make_node("Loop", ["", "yes", "first"], ["price"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 13])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.asarray(True), "yes")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    replace_model(folder, model.SerializeToString())
    return folder


def new_models(folder: Path | None = None, metrics: Metrics | None = None, limits: Limits = SMALL) -> Models:
    """The models of a folder (`first_versions`) on the CPU, not loaded yet; on the running event loop."""
    folder = folder or first_versions()
    contracts = {task.model: task.problem for task in TASKS}
    loop = asyncio.get_running_loop()
    return Models(folder, [Device(CPU)], limits, metrics or Metrics(), loop, contracts)


def open_models(folder: Path | None = None, metrics: Metrics | None = None, limits: Limits = SMALL) -> Models:
    """The same, with all of them loaded."""
    folder = folder or first_versions()
    metrics = metrics or Metrics()
    models = new_models(folder, metrics, limits)
    controlled(models, folder, metrics).start()
    return models


def controlled(
    fleet: Fleet,
    folder: Path,
    metrics: Metrics | None = None,
    *,
    mode: Mode = "poll",
    versions: str = "all",
    try_out: TryOut = lambda *_: True,
) -> Control:
    """Control of the models, or whatever a test puts in their place; nothing is tried out unless asked for."""
    return Control(folder, fleet, metrics or Metrics(), mode=mode, versions=versions, try_out=try_out)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample, or None where there is none."""
    return metrics.registry.get_sample_value(name, labels)
