"""What a GPU should take, from first principles: kernels to launch, bytes to move, operations to do. No measurement."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.gpu import graphs
from benchmarks.gpu.inprocess import device
from benchmarks.gpu.inputs import Inputs
from serving.engine.session import Session

_ROWS = 64
"""Of the batch whose tensors are looked at."""


@dataclass(frozen=True)
class Assumptions:
    """A data-centre GPU of the H100's class, used well below what its data sheet promises."""

    launch_us: float = 5.0
    copy_us: float = 10.0
    pcie_gb: float = 25.0
    memory_tb: float = 2.0
    tflops: float = 20.0


WORDS = {
    "launch_us": "µs for each kernel that is launched, ONNX Runtime's own share included; 5 to 10 are usual",
    "copy_us": "µs for each copy to the GPU or back, whatever its size, waiting for it included",
    "pcie_gb": "GB/s over PCI Express (generation 4, 16 lanes: 32 in theory)",
    "memory_tb": "TB/s of the GPU's memory (H100's data sheet: 3.35)",
    "tflops": "10¹² operations a second on float32 without tensor cores (H100's data sheet: 67)",
}
"""What each assumption is."""


@dataclass(frozen=True)
class Anatomy:
    """What of a graph can go to a GPU: all of it, or what comes behind the words."""

    nodes: int
    """Kernels at the most: nodes left by ONNX Runtime's basic optimisation."""
    flop_per_row: float
    """Of products with matrices, counting multiplications and additions."""
    weight_bytes: int
    tensor_bytes_per_row: float
    """Written and read once each, between one node and the next."""
    moved_bytes_per_row: float
    """To the GPU and back."""
    copies: int


def anatomy(model: bytes, inputs: Inputs) -> Anatomy:
    """Looked at while it computes a batch on the CPU."""
    feed = inputs.feed(_ROWS)
    proto = onnx.load_from_string(model)
    cut = graphs.cuts(model).get("words")
    if cut is not None:
        halves = graphs.split(model, cut)
        front = Session(halves.front, device("cpu"))
        given = {name: feed[name] for name in front.inputs}
        feed = feed | dict(zip(front.outputs, front.run(list(front.outputs), given), strict=True))
        proto = onnx.load_from_string(halves.network)
    feed = {one.name: feed[one.name] for one in proto.graph.input}
    nodes = _kernels(proto)
    results = {one.name for one in proto.graph.output}
    tensors = _tensors(proto, feed)
    return Anatomy(
        nodes,
        _flop(proto, tensors) / _ROWS,
        sum(math.prod(one.dims) * 4 for one in proto.graph.initializer if one.data_type == onnx.TensorProto.FLOAT),
        2 * sum(value.nbytes for value in tensors.values()) / _ROWS,
        sum(value.nbytes for name, value in {**tensors, **feed}.items() if name in results or name in feed) / _ROWS,
        len(feed) + len(results),
    )


def seconds(of: Anatomy, rows: int, front_seconds: float, given: Assumptions) -> float:
    """Of a run of so many rows: the words on the CPU, as measured, and the rest on such a GPU."""
    moved = rows * of.moved_bytes_per_row / (given.pcie_gb * 1e9)
    computed = rows * of.flop_per_row / (given.tflops * 1e12)
    read = (of.weight_bytes + rows * of.tensor_bytes_per_row) / (given.memory_tb * 1e12)
    fixed = (of.nodes * given.launch_us + of.copies * given.copy_us) * 1e-6
    return front_seconds + fixed + moved + max(computed, read)


def as_json(of: Anatomy) -> dict[str, Any]:
    """For a record."""
    return asdict(of)


def of_json(found: Mapping[str, Any]) -> Anatomy:
    """The inverse."""
    return Anatomy(**found)


def _kernels(proto: onnx.ModelProto) -> int:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "basic.onnx")
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return len(onnx.load(options.optimized_model_filepath).graph.node)


def _tensors(proto: onnx.ModelProto, feed: Mapping[str, Any]) -> dict[str, Any]:
    """Every tensor that a node makes."""
    told = onnx.ModelProto()
    told.CopyFrom(proto)
    del told.graph.output[:]
    names = [name for node in told.graph.node for name in node.output if name]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(told.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _flop(proto: onnx.ModelProto, tensors: Mapping[str, Any]) -> float:
    weights = {one.name: one.dims for one in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    return sum(2.0 * np.size(tensors[node.output[0]]) * weights[node.input[1]][-2] for node in products)
