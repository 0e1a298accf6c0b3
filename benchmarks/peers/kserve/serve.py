"""KServe's SDK server: its gRPC server, both models in one process; it has no batching.

`ModelServer` would add a REST server on all interfaces, and runs the same gRPC server (on all interfaces too) on
asyncio's loop; uvloop saves 5 % of a request. Requests may be raw or typed, at the same speed; answers are raw.
"""

import argparse
import asyncio
import logging
import signal

import numpy as np
import predictor
import uvloop
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.constants.constants import MAX_GRPC_MESSAGE_LENGTH
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension


class House(Model):
    """The price of houses."""

    def __init__(self, models: str) -> None:
        super().__init__("house_price")
        self._model = predictor.House(models)
        self.ready = True

    # Not a coroutine: it never waits.
    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        prices = self._model.run(payload.inputs[0].as_numpy())
        output = InferOutput("price", [len(prices), 1], "FP32")
        output.set_data_from_numpy(prices)
        return InferResponse(payload.id, self.name, [output])


class Sentiment(Model):
    """Whether reviews are positive."""

    def __init__(self, models: str) -> None:
        super().__init__("sentiment")
        self._model = predictor.Sentiment(models)
        self.ready = True

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        probabilities = self._model.run([text.decode() for text in payload.inputs[0].as_numpy()])
        labels = [self._model.label(probability).encode() for probability in probabilities]
        output = InferOutput("label", [len(labels)], "BYTES")
        output.set_data_from_numpy(np.array(labels, dtype=np.object_))
        return InferResponse(payload.id, self.name, [output])


async def main() -> None:
    """Serve until SIGTERM."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--models", required=True)
    chosen = arguments.parse_args()
    repository = ModelRepository()
    for model in (House(chosen.models), Sentiment(chosen.models)):
        repository.update(model)
    limits = dict.fromkeys(("grpc_max_send_message_length", "grpc_max_receive_message_length"), MAX_GRPC_MESSAGE_LENGTH)
    extension = ModelRepositoryExtension(repository)
    server = GRPCServer(chosen.port, DataPlane(repository), extension, kwargs=limits, grace_period=5)
    serving = asyncio.ensure_future(server.start(max_workers=4))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(server.stop()))
    await serving


if __name__ == "__main__":
    logging.getLogger("kserve").setLevel(logging.WARNING)  # else a line a request
    uvloop.run(main())
