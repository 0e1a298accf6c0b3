"""The models as the peers run them: the same files, the same text rules and ONNX Runtime, with no code of ours around.

Each peer imports it from its own virtual environment, which holds numpy and onnxruntime and nothing of
this repository. It is what that server's user would write in Python: a batch goes to the model in one run.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Floats = npt.NDArray[np.float32]

_MANY_BYTES = 8192
"""Texts of more bytes than this lose their runs of spaces, which cost time and mean nothing."""

_SPACES = re.compile(rb"  +")
_ERRORS_ONLY = 3


class House:
    """The price of houses, in thousand dollars."""

    def __init__(self, models: str | Path) -> None:
        _, self._session = _load(Path(models) / "house_price")

    def run(self, features: Floats) -> Floats:
        """Features [N, 13] in, prices [N, 1] out."""
        [prices] = self._session.run(["price"], {"features": features})
        return prices


class Sentiment:
    """Whether reviews are positive."""

    def __init__(self, models: str | Path) -> None:
        manifest, self._session = _load(Path(models) / "sentiment")
        rules = manifest["inputs"][0]["text"]
        self._labels: list[str] = manifest["labels"]
        self._lowercase: bool = rules["lowercase"]
        to_space = rules["to_space"].encode("ascii")
        # Of bytes and not of characters: several times faster than `str.translate`.
        self._table = bytes(ord(" ") if code in to_space else code for code in range(256))
        every = bytes(range(256))
        self._ascii_table = (every.lower() if self._lowercase else every).translate(self._table)

    def run(self, texts: Sequence[str]) -> Floats:
        """Raw texts in, the probability of "positive" out, [N]."""
        rows = [self._normalise(text) for text in texts]
        feed = {
            # The graph takes a batch as one string, its texts joined by a space, and how many tokens each has.
            "text": np.array([b" ".join(rows).decode()], dtype=np.object_),
            "text_tokens": np.array([row.count(b" ") + 1 for row in rows], dtype=np.int64),
        }
        [probabilities] = self._session.run(["probability"], feed)
        flat: Floats = probabilities.reshape(-1)
        return flat

    def label(self, probability: float) -> str:
        """What a probability means."""
        return self._labels[int(probability >= 0.5)]

    def _normalise(self, text: str) -> bytes:
        if text.isascii():
            encoded = text.encode().translate(self._ascii_table)
        else:
            encoded = (text.lower() if self._lowercase else text).encode().translate(self._table)
        if len(encoded) > _MANY_BYTES:
            encoded = _SPACES.sub(b" ", encoded).strip(b" ")
        return encoded or b" "


def _load(folder: Path) -> tuple[dict[str, Any], ort.InferenceSession]:
    """The manifest and the session of version 1, which every server is measured with."""
    version = folder / "1"
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # There is one core: a second thread could only take turns with the first.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    session = ort.InferenceSession(
        (version / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    return json.loads((version / "model.json").read_text("utf-8")), session
