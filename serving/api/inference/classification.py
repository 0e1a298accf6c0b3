"""The best classes of each row instead of a tensor of scores: Triton's extension "classification".

Each is "value:index:label", best first; "value:index" where the package has no label for each class. A model of
two labels whose output is one column, the probability of the second, is answered as if it had both columns.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from serving.package.manifest import Manifest, OutputSpec
from serving.repository.version import Version
from serving.status import invalid

MAX_CLASSES: Final = 25_000
"""Classes of one answer: writing them holds up every other call."""


class Asked(Protocol):
    """An output that a caller asks for."""

    @property
    def name(self) -> str: ...

    @property
    def class_count(self) -> int: ...


def check(outputs: Sequence[Asked], version: Version, rows: int) -> None:
    """Refuse what can't be classified, before any work; the names have been checked.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    total = 0
    for index, output in enumerate(outputs):
        if not output.class_count:
            continue
        spec = version.manifest.outputs[version.outputs[output.name]]
        where = f"outputs[{index}] ({spec.name})"
        if output.class_count < 0:
            raise invalid(f"{where}: class_count: expected a positive number, got {output.class_count}")
        if spec.datatype in ("BYTES", "BOOL"):
            raise invalid(f"{where}: class_count: an output of {spec.datatype} has no classes")
        total += rows * min(output.class_count, classes(spec, version.manifest))
    if total > MAX_CLASSES:
        raise invalid(f"class_count: {total} classes in one answer; this server gives {MAX_CLASSES} at the most")


def classes(spec: OutputSpec, manifest: Manifest) -> int:
    """Over how many classes an output gives a score."""
    return 2 if _is_binary(spec, manifest) else math.prod(spec.shape[1:])


def classify(data: npt.NDArray[Any], spec: OutputSpec, manifest: Manifest, count: int) -> npt.NDArray[np.object_]:
    """The `count` best classes of each row as bytes, [rows, count], or all where there are fewer; equals by index."""
    scores = data.reshape(len(data), -1)
    if _is_binary(spec, manifest):
        scores = np.concatenate([1 - scores, scores], axis=1)
    labels = manifest.labels if len(manifest.labels) == scores.shape[1] else ()
    whole = np.issubdtype(scores.dtype, np.integer)
    # Unsigned numbers have no negative, and the least signed one neither; NaN is last in any case.
    best = np.argsort(~scores if whole else -scores, axis=1, kind="stable")[:, :count]
    write = str if whole else "{:f}".format
    found = np.empty(best.shape, np.object_)
    for row, (indices, values) in enumerate(
        zip(best.tolist(), np.take_along_axis(scores, best, axis=1).tolist(), strict=True)
    ):
        for place, (index, score) in enumerate(zip(indices, values, strict=True)):
            label = f":{labels[index]}" if labels else ""
            found[row, place] = f"{write(score)}:{index}{label}".encode()
    return found


def _is_binary(spec: OutputSpec, manifest: Manifest) -> bool:
    return len(manifest.labels) == 2 and spec.shape == (-1, 1) and spec.datatype.startswith("FP")
