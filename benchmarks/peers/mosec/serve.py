"""Mosec: a Rust HTTP front, and a Python process for each model, which is given the requests of one batch.

JSON is read and written by msgspec, which mosec brings along: faster than its default.

A batch that is not full waits for the timer, and the timer's steps are of a millisecond even where the wait is none.
So what suits mosec is a batch that is full with as many requests as are in flight. Tried on one core, one against the
other by turns, house price at 1 / 16 / 64 in flight, thousands a second (no wait): 64 rows 0.8 / 10 / 39, 16 rows
0.8 / 36 / 33, 32 rows 0.8 / 10 / 36, 128 rows 0.8 / 9 / 27; with a wait of 1 ms, 64 rows 0.4 / 6 / 39. The first two
are measured, as servers of their own.
"""

import argparse
import os
import sys
from typing import Any

import msgspec
import numpy as np
from mosec import Runtime, Server, Worker
from predictor import House, Sentiment

_MODELS = "PEER_MODELS"


class _House(msgspec.Struct):
    features: list[float]


class _Text(msgspec.Struct):
    text: str


class _Json(Worker):
    """Requests of one shape, by the fastest codec at hand."""

    takes: type[msgspec.Struct]

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(self.takes).decode
        self._encode = msgspec.json.Encoder().encode

    def deserialize(self, data: bytes) -> Any:
        return self._decode(data)

    def serialize(self, data: Any) -> bytes:
        return self._encode(data)


class HousePrice(_Json):
    """Thirteen features in, a price out."""

    takes = _House

    def __init__(self) -> None:
        super().__init__()
        self._model = House(os.environ[_MODELS])

    def forward(self, data: list[_House]) -> list[dict[str, float]]:
        prices = self._model.run(np.array([house.features for house in data], dtype=np.float32))
        return [{"price": price} for [price] in prices.tolist()]


class Review(_Json):
    """A text in, a label out."""

    takes = _Text

    def __init__(self) -> None:
        super().__init__()
        self._model = Sentiment(os.environ[_MODELS])

    def forward(self, data: list[_Text]) -> list[dict[str, str]]:
        label = self._model.label
        return [{"label": label(value)} for value in self._model.run([text.text for text in data]).tolist()]


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    os.environ[_MODELS] = options.models
    # Mosec reads its own settings from the command line; only there can the wait be none.
    settings = {"--address": "127.0.0.1", "--port": options.port, "--log-level": "warning", "--wait": "0"}
    sys.argv = [sys.argv[0], *(word for setting in settings.items() for word in setting)]
    server = Server()
    routes = {"/house_price": HousePrice, "/sentiment": Review}
    server.register_runtime({route: [Runtime(worker, max_batch_size=options.rows)] for route, worker in routes.items()})
    server.run()


if __name__ == "__main__":
    main()
