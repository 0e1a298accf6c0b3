"""From the rows of many requests to the arrays of one batch."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.engine.queue import Piece
from serving.engine.session import Feed
from serving.package.manifest import NUMPY_TYPES, InputSpec
from serving.package.text import flatten


class Assembler:
    """Builds a model's graph inputs for a batch.

    Tensor rows travel as raw bytes until here: one join and no copy per request is several times
    cheaper than `np.concatenate` over as many small arrays.
    """

    def __init__(self, inputs: Sequence[InputSpec]) -> None:
        self._inputs = [(spec, 0 if spec.datatype == "BYTES" else row_bytes(spec)) for spec in inputs]

    def __call__(self, pieces: Sequence[Piece]) -> Feed:
        """Graph inputs for the rows of `pieces`, in order."""
        feed: Feed = {}
        for index, (spec, width) in enumerate(self._inputs):
            if spec.datatype == "BYTES":
                texts: list[Any] = []
                for request, start, stop in pieces:
                    texts += request.inputs[index][start:stop]
                if spec.layout == "flat":
                    feed |= flatten(spec.name, texts)
                else:
                    feed[spec.name] = np.array([text.decode() for text in texts], dtype=np.object_)
            else:
                data = b"".join(
                    [bytes(request.inputs[index])[start * width : stop * width] for request, start, stop in pieces]
                )
                feed[spec.name] = np.frombuffer(data, NUMPY_TYPES[spec.datatype]).reshape(-1, *spec.shape[1:])
        return feed


def row_bytes(spec: InputSpec) -> int:
    """Bytes of one row of a tensor of fixed-size elements."""
    return int(np.dtype(NUMPY_TYPES[spec.datatype]).itemsize) * math.prod(spec.shape[1:])
