"""The manifest of a model package, `model.json`: its shape, how it is read, and how it is written."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

MANIFEST = "model.json"
MODEL = "model.onnx"

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
NAME_LENGTH = 64

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
Task = Literal["binary-classification", "multiclass-classification", "regression"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# fmt: off
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
]
# fmt: on
"""The Open Inference Protocol's."""

NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


class ManifestError(ValueError):
    """A manifest that is missing, malformed or at odds with itself; the message says where."""


class TextRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How raw text becomes the words that the graph looks up; `serving.package.text` applies it."""

    lowercase: bool
    to_space: str
    """ASCII characters that separate words, besides the space itself."""


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input as clients see it: axis 0 is the batch and is written -1."""

    name: Name
    datatype: Datatype
    shape: tuple[int, ...]
    text: TextRules | None = None
    layout: Literal["flat"] | None = None
    """How the graph takes the input, where that differs: see `serving.package.text.flatten`."""


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output; axis 0 is the batch and is written -1."""

    name: Name
    datatype: Datatype
    shape: tuple[int, ...]


class FileDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and SHA-256 of one file of the package."""

    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two values agree when |a - b| <= atol + rtol * |b|."""

    atol: Annotated[float, msgspec.Meta(ge=0)]
    rtol: Annotated[float, msgspec.Meta(ge=0)]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Real raw inputs and Keras's own outputs for them; null stands for NaN, an absent feature."""

    tolerance: dict[str, Tolerance]
    """By ONNX Runtime execution provider."""
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model package says of itself. Format 1."""

    format: Literal[1]
    name: Name
    version: Positive
    task: Task
    inputs: Annotated[tuple[InputSpec, ...], msgspec.Meta(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], msgspec.Meta(min_length=1)]
    labels: tuple[str, ...]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    files: dict[str, FileDigest]
    golden: Golden


def parse(data: bytes) -> Manifest:
    """Read a manifest from the bytes of `model.json`.

    Raises:
        ManifestError: not JSON, not of this shape, or at odds with itself.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST}: {error}") from error
    _check(manifest)
    return manifest


def dump(manifest: Manifest) -> bytes:
    """The bytes of `model.json`, indented for people, deterministic."""
    _check(manifest)
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `model.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Triptych model manifest, format 1",
        **msgspec.json.schema(Manifest),
    }


def digest(path: Path) -> FileDigest:
    """Size and SHA-256 of the file at `path`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileDigest(bytes=path.stat().st_size, sha256=sha256)


def golden_array(values: Sequence[Any], datatype: str) -> npt.NDArray[Any]:
    """Golden values as an array of `datatype`; in floats, null becomes NaN.

    Raises:
        Exception: of NumPy's own kinds, where the values are none of `datatype`.
    """
    if datatype.startswith("FP"):
        return np.array(values, dtype=np.float64).astype(NUMPY_TYPES[datatype])
    return np.array(values, dtype=NUMPY_TYPES[datatype])


def golden_values(array: npt.NDArray[Any]) -> list[Any]:
    """The JSON form of `array`: NaN becomes null. The inverse of `golden_array`."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    values: list[Any] = plain(array.tolist())
    return values


def _check(manifest: Manifest) -> None:
    """The rules that a schema can't say."""

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ManifestError(f"{MANIFEST}: {message}")

    tensors: list[InputSpec | OutputSpec] = [*manifest.inputs, *manifest.outputs]
    for kind, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [spec.name for spec in specs]
        require(len(set(names)) == len(names), f"{kind}: a name occurs twice")
        golden = getattr(manifest.golden, kind)
        require(golden.keys() == set(names), f"golden.{kind} and {kind} name different tensors")
    for spec in tensors:
        shape = spec.shape
        require(
            len(shape) >= 1 and shape[0] == -1 and all(size >= 1 for size in shape[1:]),
            f"{spec.name}: shape must be -1 (the batch) and then positive sizes, got {list(shape)}",
        )
    for spec in manifest.inputs:
        require(
            spec.datatype != "BYTES" or spec.shape == (-1,),
            f"{spec.name}: an input of BYTES must have shape [-1], one element a row",
        )
        require(
            spec.text is None or (spec.datatype == "BYTES" and spec.shape == (-1,)),
            f"{spec.name}: text rules need datatype BYTES and shape [-1]",
        )
        require(spec.layout is None or spec.text is not None, f"{spec.name}: layout flat needs text")
        require(spec.text is None or spec.text.to_space.isascii(), f"{spec.name}: to_space must be ASCII")
    rows = {len(values) for values in (*manifest.golden.inputs.values(), *manifest.golden.outputs.values())}
    require(len(rows) == 1 and rows != {0}, "golden: every input and output must have the same rows, at least one")
    require(MODEL in manifest.files, f"files: {MODEL} is missing")
    for file in manifest.files:
        require(Path(file).name == file, f"files: {file!r} is not a plain file name")


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
