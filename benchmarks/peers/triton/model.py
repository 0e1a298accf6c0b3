"""Either model behind Triton's Python backend, which calls it with the requests of one batch."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from predictor import House, Sentiment


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the model that the configuration names."""
        config = json.loads(arguments["model_config"])
        models = config["parameters"]["models"]["string_value"]
        self.execute = _house(House(models)) if config["name"] == "house_price" else _sentiment(Sentiment(models))


def _house(model: House) -> Any:
    def execute(requests: Sequence[Any]) -> list[Any]:
        rows = [pb_utils.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        return _answers("price", model.run(rows[0] if len(rows) == 1 else np.concatenate(rows)), rows)

    return execute


def _sentiment(model: Sentiment) -> Any:
    def execute(requests: Sequence[Any]) -> list[Any]:
        rows = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        texts = [text.decode() for row in rows for text in row[:, 0]]
        labels = [[model.label(probability)] for probability in model.run(texts).tolist()]
        return _answers("label", np.array(labels, dtype=np.object_), rows)

    return execute


def _answers(name: str, results: Any, rows: Sequence[Any]) -> list[Any]:
    """A response for each request, with as many rows as it had."""
    answers, start = [], 0
    for row in rows:
        stop = start + len(row)
        answers.append(pb_utils.InferenceResponse([pb_utils.Tensor(name, results[start:stop])]))
        start = stop
    return answers
