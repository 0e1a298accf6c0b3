"""Bring your own: any saved Keras network, with some real rows of its inputs, becomes a package."""

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf

from serving.package.manifest import (
    MANIFEST,
    MODEL,
    NAME_LENGTH,
    NAME_PATTERN,
    Golden,
    Manifest,
    Task,
    Tolerance,
    digest,
    dump,
)
from training.data import Array
from training.errors import ExportError, TrainingError
from training.evaluate import PROVIDER, Feeds, array_feeds, check_parity, open_session, run
from training.fit import make_deterministic
from training.models import SEED, Network
from training.options import ExportPrecision
from training.packaging.convert import convert_network
from training.packaging.examples import read_examples, read_labels
from training.packaging.golden import ROWS, json_values
from training.packaging.half import half
from training.packaging.half_parity import PARITY, Held, hold, metrics_of, told, tolerance
from training.packaging.package import digest_of, target, write
from training.packaging.saved import load_network
from training.packaging.signature import Signature, described, of_network
from training.provenance import code, libraries, run_json

GOLDEN_VALUES = 100_000
"""Numbers in the golden examples, at most, so that a manifest of large images stays readable; one row at least."""

TOLERANCE = 1e-5
OTHER_DEVICES = 10
"""How much further from Keras a GPU may be than the CPU."""


@dataclass(frozen=True)
class Order:
    """What to package, under which name, and where to put it."""

    network: Path
    name: str
    task: Task
    examples: Path
    out: Path
    labels: Path | None = None
    """A text file with a line for each label; None means there are none."""
    version: int | None = None
    force: bool = False
    tolerance: float | None = None
    """How far ONNX Runtime on the CPU may be from Keras: |a − b| ≤ tolerance + tolerance · |b|; None is `TOLERANCE`, or
    the bound of float16 packages."""
    export_precision: ExportPrecision = "float32"
    """What the package computes in."""


@dataclass(frozen=True)
class Packaged:
    """What came of it."""

    folder: Path
    signature: Signature
    rows: int
    """Example rows on which ONNX Runtime and Keras agree."""
    model_bytes: int
    sha256: str
    told: str = ""
    """What float16 changed, for people."""


def package(order: Order) -> Packaged:
    """Write the package of `order`, after holding its graph to Keras on every example row.

    Raises:
        TrainingError: a file is missing or not what it should be, the network can't be packaged, or its graph does not
            do what it does; nothing is written then.
    """
    started = time.perf_counter()
    if not re.fullmatch(NAME_PATTERN, order.name) or len(order.name) > NAME_LENGTH:
        raise TrainingError(
            f"--name {order.name!r} is not a model's name: expected a letter a-z, then at most {NAME_LENGTH - 1} of "
            "a-z, 0-9 and _"
        )
    if order.tolerance is not None and not 0 <= order.tolerance < math.inf:
        raise TrainingError(f"--tolerance {order.tolerance} is not a tolerance: expected 0 or more")
    folder = target(order.out, order.name, order.version, order.force)
    make_deterministic(SEED)
    network = load_network(order.network)
    signature = of_network(network)
    labels = () if order.labels is None else read_labels(order.labels, order.task, signature.outputs)
    examples = read_examples(order.examples, signature.inputs)
    graph = convert_network(order.name, network, signature)
    half_precision = order.export_precision == "float16"
    if half_precision:
        graph = half(graph)
    model = graph.SerializeToString(deterministic=True)
    allowed = _allowed(order)
    expected = answers(network, signature, array_feeds(examples))
    rows = len(next(iter(examples.values())))
    golden_rows = max(1, min(ROWS, GOLDEN_VALUES // (_values(examples) // rows + _values(expected) // rows)))
    _check(order, signature, model, examples, expected, golden_rows, allowed[PROVIDER])
    held = _hold(order, graph, expected, examples, allowed[PROVIDER]) if half_precision else None
    manifest = Manifest(
        format=1,
        name=order.name,
        version=int(folder.name),
        task=order.task,
        inputs=signature.inputs,
        outputs=signature.outputs,
        labels=labels,
        metrics={
            **({} if held is None else metrics_of(held, {})),
            "protocol": f"none: a saved network; it and this {'float16 ' if half_precision else ''}graph agree on "
            f"{rows:,} example rows.",
        },
        provenance={
            "network_sha256": digest(order.network).sha256,
            "examples_sha256": digest(order.examples).sha256,
            "code": code(),
            "libraries": libraries(),
            **({"export_precision": order.export_precision} if half_precision else {}),
        },
        files={MODEL: digest_of(model)},
        golden=Golden(
            tolerance=allowed,
            inputs={name: json_values(array[:golden_rows]) for name, array in examples.items()},
            outputs={name: json_values(array[:golden_rows]) for name, array in expected.items()},
        ),
    )
    files = {MODEL: model, MANIFEST: dump(manifest)}
    write(folder, {**files, "run.json": run_json(None, time.perf_counter() - started)}, replace=order.force)
    found = digest_of(model)
    return Packaged(folder, signature, rows, found.bytes, found.sha256, "" if held is None else told(held))


def answers(network: Network, signature: Signature, feeds: Iterable[Feeds]) -> dict[str, Array]:
    """The outputs of `network` by name, axis 0 the rows, of all `feeds` in turn."""
    import keras

    functional = keras.Model(network.inputs, network.outputs)  # lists in, lists out, however the network has them
    parts = []
    for feed in feeds:
        outputs = functional([feed[spec.name] for spec in signature.inputs], training=False)
        parts.append([np.asarray(output) for output in tf.nest.flatten(outputs)])
    names = [spec.name for spec in signature.outputs]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def _check(
    order: Order,
    signature: Signature,
    model: bytes,
    examples: dict[str, Array],
    expected: dict[str, Array],
    alone: int,
    tolerance: Tolerance,
) -> None:
    """Hold the graph to Keras on all examples, and the first `alone` rows by themselves to the same rows in a batch."""
    for spec in signature.outputs:
        array = expected[spec.name]
        if array.shape[1:] != spec.shape[1:]:
            raise ExportError(f"Keras gives {list(array.shape)} for the output {described(spec)}; expected its shape")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise ExportError(
                f"Keras gives {spec.name} a value that is not a finite number for example row {row}: expected examples "
                "with answers"
            )
    session = open_session(model)
    try:
        check_parity(f"{order.name}, examples", expected, run(session, array_feeds(examples)), tolerance)
    except ExportError as error:
        raise ExportError(f"{error} More is allowed by --tolerance.") from error
    first = {name: array[:alone] for name, array in examples.items()}
    singly = run(session, array_feeds(first, batch=1))
    try:
        check_parity(f"{order.name}, rows alone", {k: v[:alone] for k, v in expected.items()}, singly, tolerance)
    except ExportError as error:
        raise ExportError(
            f"{error} A server puts the rows of many callers in one batch: expected a network whose answer to a row "
            "does not depend on the rows beside it."
        ) from error


def _hold(
    order: Order, graph: onnx.ModelProto, expected: dict[str, Array], examples: dict[str, Array], parity: Tolerance
) -> Held:
    """Hold the float16 `graph` to Keras on all examples with its roundings, too."""
    try:
        return hold(f"{order.name}, examples", graph, expected, lambda: array_feeds(examples), order.task, parity)
    except ExportError as error:
        raise ExportError(f"{error} More is allowed by --tolerance.") from error


def _allowed(order: Order) -> dict[str, Tolerance]:
    """By execution provider."""
    if order.export_precision == "float16":
        return tolerance(PARITY if order.tolerance is None else _tolerance(order.tolerance))
    allowed = TOLERANCE if order.tolerance is None else order.tolerance
    return {PROVIDER: _tolerance(allowed), "CUDAExecutionProvider": _tolerance(OTHER_DEVICES * allowed)}


def _tolerance(allowed: float) -> Tolerance:
    return Tolerance(atol=allowed, rtol=allowed)


def _values(arrays: dict[str, Array]) -> int:
    return sum(array.size for array in arrays.values())
