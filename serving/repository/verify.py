"""Verified load: nothing is served that does not reproduce its golden examples on the device that will serve it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.engine.cost import CostModel
from serving.engine.device import CPU, Device, beyond_limit, out_of_memory
from serving.engine.engine import Runner, alone
from serving.engine.placement import Placement
from serving.engine.request import Outputs, Request, Rows
from serving.engine.session import ProfileError, Session
from serving.package.manifest import MANIFEST, NUMPY_TYPES, InputSpec, Manifest, OutputSpec, Tolerance, golden_array
from serving.package.text import TOKENS_SUFFIX, Normaliser
from serving.repository import gpu_load
from serving.repository.disk import LoadError, Package
from serving.repository.rules import graph

_ONNX_TYPES = {
    "BOOL": "tensor(bool)",
    "UINT8": "tensor(uint8)",
    "UINT16": "tensor(uint16)",
    "UINT32": "tensor(uint32)",
    "UINT64": "tensor(uint64)",
    "INT8": "tensor(int8)",
    "INT16": "tensor(int16)",
    "INT32": "tensor(int32)",
    "INT64": "tensor(int64)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
    "BYTES": "tensor(string)",
}

MAX_ROW_BYTES: Final = 64 * 1024**2
"""Of one row of one tensor; a text counts as 8 bytes."""
MAX_BATCH_BYTES: Final = 1024**3
"""Of one batch of one tensor. Where rows are large, batches have fewer of them."""
MAX_GOLDEN_ROWS: Final = 4096
MAX_TENSORS: Final = 256
"""Inputs, and outputs."""

_MEASURED: Final = 3
"""Runs of each batch size, of which the shortest counts. None is the first, which may still have allocated or compiled
something, and one stall does not decide how large batches are for as long as the server lives."""

WORTH_WHILE: Final = 24
"""A batch that takes so many times as long as one row alone has next to nothing left to save."""

RUN_SECONDS: Final = 30.0
"""In which all runs of a batch size must end: one that never does must not keep a server from starting."""

_HOPELESS: Final = 2 * WORTH_WHILE
"""One that takes so many times as long is not slow by accident: larger ones are not tried."""


class Loaded(NamedTuple):
    """A package that is verified."""

    runner: Runner
    cost: CostModel
    """What its batches cost."""
    batch_rows: int
    """Rows of the largest batch that is worth while."""
    placement: Placement | None = None
    """Where its nodes ran, if on a GPU."""


Contract = Callable[[Manifest], str | None]
"""Says what keeps a model from being served under its name, or None if nothing does."""


def check_contract(manifest: Manifest, contract: Contract | None) -> None:
    """Hold a manifest against what the API needs of a model of its name.

    Raises:
        LoadError: `signature`.
    """
    problem = contract(manifest) if contract else None
    if problem:
        raise LoadError("signature", f"the typed API can't serve it: {problem}")


def check_static(package: Package) -> None:
    """Hold a package against all rules that need no ONNX Runtime: of graphs, and bounds of manifests.

    Raises:
        LoadError: `load_error`, `signature` or `golden`.
    """
    _check_bounds(package.manifest)
    graph.check(package.model)


def _check_bounds(manifest: Manifest) -> None:
    sides: list[tuple[str, tuple[InputSpec | OutputSpec, ...]]]
    sides = [("inputs", manifest.inputs), ("outputs", manifest.outputs)]
    for kind, specs in sides:
        if len(specs) > MAX_TENSORS:
            raise LoadError("signature", f"{MANIFEST}: {len(specs)} {kind}, more than {MAX_TENSORS}")
        for spec in specs:
            row = _row_bytes(spec)
            if row > MAX_ROW_BYTES:
                raise LoadError(
                    "signature",
                    f"{MANIFEST}: {spec.name}: a row of shape {list(spec.shape[1:])} has {row} bytes, "
                    f"more than {MAX_ROW_BYTES}",
                )
    rows = max(map(len, manifest.golden.outputs.values()))
    if rows > MAX_GOLDEN_ROWS:
        raise LoadError("golden", f"{MANIFEST}: golden has {rows} rows, more than {MAX_GOLDEN_ROWS}")


def load(
    package: Package, device: Device, max_batch_rows: int, done: Callable[[str], None] = lambda step: None
) -> Loaded:
    """Load a package onto `device`, verify it, and warm every batch size up to `max_batch_rows`.

    `done` is told of each step that holds, in order: static, session, signature, golden, warm-up.

    Raises:
        LoadError: `load_error`, `signature` or `golden`, with what was expected and what was found.
    """
    manifest = package.manifest
    check_static(package)
    done("static")
    try:
        session = Session(package.model, device, profiled=device.provider != CPU)
    except Exception as error:
        # ONNX Runtime raises classes of its own for whatever it does not like.
        raise gpu_load.unloadable(error, device) from error
    done("session")
    check_signature(manifest, session)
    done("signature")
    runner = Runner(manifest, session)
    return _verify_and_warm(runner, max_batch_rows, done)


def check_signature(manifest: Manifest, session: Session) -> None:
    """Hold the graph's inputs and outputs against the manifest's.

    Raises:
        LoadError: `signature`.
    """
    inputs: dict[str, tuple[str, list[Any]]] = {}
    for spec in manifest.inputs:
        if spec.layout == "flat":
            inputs[spec.name] = ("tensor(string)", [1])
            inputs[spec.name + TOKENS_SUFFIX] = ("tensor(int64)", ["N"])
        else:
            inputs[spec.name] = (_ONNX_TYPES[spec.datatype], ["N", *spec.shape[1:]])
    outputs = {spec.name: (_ONNX_TYPES[spec.datatype], ["N", *spec.shape[1:]]) for spec in manifest.outputs}
    for kind, expected, found in (("input", inputs, session.inputs), ("output", outputs, session.outputs)):
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise LoadError(
                    "signature",
                    f"{kind} {name}: the manifest implies {_describe(expected.get(name))}, "
                    f"the graph has {_describe(found.get(name))}",
                )


def encode(spec: InputSpec, values: list[Any]) -> Rows:
    """Raw golden values of one input as the engine takes them."""
    if spec.text is not None:
        normalise = Normaliser(spec.text)
        return [normalise(text) for text in values]
    if spec.datatype == "BYTES":
        return [text.encode() for text in values]
    return golden_array(values, spec.datatype).tobytes()


def size_of(inputs: list[Rows]) -> int:
    """Bytes of a request's inputs."""
    return sum(len(rows) if isinstance(rows, bytes) else sum(map(len, rows)) for rows in inputs)


def _row_bytes(spec: InputSpec | OutputSpec) -> int:
    return math.prod(spec.shape[1:]) * int(np.dtype(NUMPY_TYPES[spec.datatype]).itemsize)


def _verify_and_warm(runner: Runner, max_batch_rows: int, done: Callable[[str], None]) -> Loaded:
    manifest, placement = runner.manifest, None
    largest = max(*map(_row_bytes, manifest.inputs), *map(_row_bytes, manifest.outputs))
    max_batch_rows = min(max_batch_rows, max(1, MAX_BATCH_BYTES // largest))
    examples = _Examples.of(runner)
    rows = examples.rows
    cost, seconds = CostModel(), dict[int, float]()
    for position, wanted in enumerate(_batch_sizes(rows, max_batch_rows)):
        order = [index % rows for index in range(wanted)]
        try:
            request = examples.request(order)
            with runner.session.bounded(RUN_SECONDS):
                outputs = runner(alone(request))
                if runner.session.profiled:
                    placement = gpu_load.placement(runner.session)
                seconds[wanted] = min(_timed(runner, request) for _ in range(_MEASURED))
        except LoadError:
            raise
        except ProfileError as error:
            raise LoadError("load_error", str(error), lasting=False) from error
        except Exception as error:
            lasting = runner.session.provider == CPU or beyond_limit(error) or not out_of_memory(error)
            raise LoadError("golden", f"it can't compute {wanted} golden rows: {error}", lasting=lasting) from error
        cost.observe(request.size, seconds[wanted])
        examples.compare(outputs, order)
        if position == 0:
            done("golden")
        elif seconds[wanted] > _HOPELESS * seconds.get(1, math.inf):
            break
    batch_rows = largest_worth_while(seconds, max_batch_rows)
    if runner.session.provider != CPU:
        batch = alone(examples.request([index % rows for index in range(batch_rows)]))
        gpu_load.fill_pipe(runner, batch, RUN_SECONDS)
    done("warm-up")
    return Loaded(runner, cost, batch_rows, placement)


class _Examples(NamedTuple):
    """A model's golden examples, on the device that serves it."""

    manifest: Manifest
    expected: Outputs
    tolerance: Tolerance

    @classmethod
    def of(cls, runner: Runner) -> "_Examples":
        """Raises LoadError where they can't be read."""
        manifest, provider = runner.manifest, runner.session.provider
        golden = manifest.golden
        tolerance = golden.tolerance.get(provider)
        if tolerance is None:
            raise LoadError("golden", f"the manifest gives no tolerance for {provider}")
        # The manifest may hold any JSON here: texts that are numbers, rows of different lengths.
        try:
            expected = [golden_array(golden.outputs[spec.name], spec.datatype) for spec in manifest.outputs]
        except Exception as error:
            raise LoadError("golden", f"golden.outputs can't be read: {error}") from error
        return cls(manifest, expected, tolerance)

    @property
    def rows(self) -> int:
        return len(self.expected[0])

    def request(self, order: list[int]) -> Request:
        """These examples, in this order."""
        golden = self.manifest.golden.inputs
        inputs = [encode(spec, [golden[spec.name][index] for index in order]) for spec in self.manifest.inputs]
        return Request(inputs, len(order), size_of(inputs), 0.0, lambda *_: None)

    def compare(self, outputs: Outputs, order: list[int]) -> None:
        """Raises LoadError where the outputs are not those of these examples."""
        expected = [column[order] for column in self.expected]
        _compare(self.manifest, outputs, expected, self.tolerance.atol, self.tolerance.rtol)


def reproduce(runner: Runner) -> None:
    """Compute the golden examples once more, of a model that is served and may have come to harm.

    Raises:
        LoadError: `golden`, where they are not what they were.
    """
    examples = _Examples.of(runner)
    order = list(range(examples.rows))
    try:
        with runner.session.bounded(RUN_SECONDS):
            outputs = runner(alone(examples.request(order)))
    except Exception as error:
        raise LoadError("golden", f"it can't compute its golden examples any more: {error}", lasting=False) from error
    examples.compare(outputs, order)


def _timed(runner: Runner, request: Request) -> float:
    started = time.monotonic()
    runner(alone(request))
    return time.monotonic() - started


def largest_worth_while(seconds: Mapping[int, float], most: int) -> int:
    """Rows beyond which a batch makes its answers later and hardly cheaper, given what batches of some sizes took.

    What a batch costs by itself is shared by its rows: once they take `WORTH_WHILE` times as long as a single one
    does with it, more of them have nothing to gain, and caches to lose. Models whose rows cost next to nothing, and
    GPUs, get `most`; texts on a CPU some dozens.
    """
    bound = WORTH_WHILE * seconds[1]
    return max(rows for rows, taken in seconds.items() if rows == 1 or (taken <= bound and rows <= most))


def _batch_sizes(golden_rows: int, max_batch_rows: int) -> list[int]:
    """The golden examples as one batch, then every power of two, and the full batch."""
    powers = [2**k for k in range(max_batch_rows.bit_length()) if 2**k < max_batch_rows]
    return [golden_rows, *powers, max_batch_rows]


def _compare(manifest: Manifest, outputs: Outputs, expected: Outputs, atol: float, rtol: float) -> None:
    for spec, found, wanted in zip(manifest.outputs, outputs, expected, strict=True):
        if found.shape != wanted.shape:
            raise LoadError("golden", f"output {spec.name} has shape {found.shape}, expected {wanted.shape}")
        bad = ~close(found, wanted, atol, rtol)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise LoadError(
                "golden",
                f"golden example {at[0]}: {spec.name}{list(at[1:])} is {found[at]!s}, expected {wanted[at]!s} "
                f"within {atol:g} + {rtol:g} of it",
            )


def close(a: npt.NDArray[Any], b: npt.NDArray[Any], atol: float, rtol: float) -> npt.NDArray[np.bool_]:
    """Where `a` agrees with `b`: |a - b| <= atol + rtol * |b|, and NaN with NaN."""
    if a.dtype == np.object_:
        return np.asarray(a == b)
    return np.asarray(np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True))


def _describe(tensor: tuple[str, list[Any]] | None) -> str:
    return "none" if tensor is None else f"{tensor[0]} {tensor[1]}"
