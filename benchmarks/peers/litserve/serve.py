"""LitServe: HTTP and JSON, a worker process a model, batching on."""

import argparse
import json
import signal
from typing import Any

import litserve
import numpy as np
import predictor
from starlette.responses import Response

# House price at 64 / 16 / 1 in flight, requests/s: 64 rows, 5 ms 1,780 / 1,910 / 180; 16 rows, 5 ms 1,660 / 1,760 /
# 180; 2 ms 1,630 / 1,600 / 370; 1 ms 1,340 / 1,560 / 620; 0 s 660 / 800 / 690 (it polls without a rest).
MAX_BATCH_SIZE = 64
BATCH_SECONDS = 0.005


class House(litserve.LitAPI):
    """The price of houses; whole responses spare FastAPI's encoder, a tenth of a request."""

    def __init__(self, models: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_SECONDS, api_path="/house_price")
        self._models = models

    def setup(self, device: str) -> None:
        self._model = predictor.House(self._models)

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        return request["features"]

    def batch(self, inputs: list[list[float]]) -> predictor.Floats:
        return np.array(inputs, np.float32)

    def predict(self, x: predictor.Floats) -> predictor.Floats:
        return self._model.run(x)

    def unbatch(self, output: predictor.Floats) -> list[float]:
        return output.ravel().tolist()

    def encode_response(self, output: float) -> Response:
        return Response(json.dumps({"price": round(output, 4)}), media_type="application/json")


class Sentiment(litserve.LitAPI):
    """Whether reviews are positive."""

    def __init__(self, models: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_SECONDS, api_path="/sentiment")
        self._models = models

    def setup(self, device: str) -> None:
        self._model = predictor.Sentiment(self._models)

    def decode_request(self, request: dict[str, Any]) -> str:
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, x: list[str]) -> predictor.Floats:
        return self._model.run(x)

    def unbatch(self, output: predictor.Floats) -> list[float]:
        return output.tolist()

    def encode_response(self, output: float) -> Response:
        return Response(json.dumps({"label": self._model.label(output)}), media_type="application/json")


def main() -> None:
    """Serve until SIGTERM."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--models", required=True)
    chosen = arguments.parse_args()
    # No fast_queue: 0.2.19 takes the argument and goes on with its other queue.
    server = litserve.LitServer(
        [House(chosen.models), Sentiment(chosen.models)],
        accelerator="cpu",
        workers_per_device=1,
    )
    # It stops its processes on an interrupt, and would leave them behind on SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server.run(
        host="127.0.0.1",
        port=chosen.port,
        num_api_servers=1,
        api_server_worker_type="process",  # "thread" left processes behind
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
