"""The protocol's service over a transport in memory, and what a test asks of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from serving.api.inference.service import SERVICE, InferenceService
from serving.engine.batcher import Limits
from serving.repository.models import Models
from serving.repository.state import Entry
from serving.status import Code, StatusError
from serving.telemetry.metrics import Metrics
from serving.telemetry.statistics import Statistics
from tests.serving import packages
from tests.serving.api.calls import MemoryCall, MemoryStream, call, stream
from tests.serving.api.desk import Desk
from tests.serving.packages import value

FEATURES = [0.00632, 18.0, 2.31, 0.0, 0.538, 6.575, 65.2, 4.09, 1.0, 296.0, 15.3, 396.9, 4.98]


class FakeManagement:
    """Answers at once with what a test puts there, and keeps what it was asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.asked: list[tuple[str, ...]] = []
        self.entries: list[Entry] | StatusError = []
        self.error: StatusError | None = None

    def index(self, done: Callable[[list[Entry] | StatusError], None]) -> None:
        self.asked.append(("index",))
        done(self.entries)

    def load(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self.asked.append(("load", name))
        done(self.error)

    def unload(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self.asked.append(("unload", name))
        done(self.error)

    def statistics(self, wanted: dict[str, list[str]], done: Callable[[list[Statistics] | StatusError], None]) -> None:
        if self.error is not None:
            done(self.error)
            return
        done([self._metrics.statistics(model, version) for model, found in wanted.items() for version in found])


class InferDesk(Desk):
    """The service, and what a test asks of it."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        super().__init__(models, metrics)
        self.management = FakeManagement(metrics)
        self.inference = InferenceService(self.backend, self.management)
        self.typed = self.routes
        self.routes = self.inference.routes()

    def call(self, method: str, message: Message | bytes, **options: float) -> MemoryCall:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return call(self.routes, f"/{SERVICE}/{method}", data, **options)

    def infer(self, message: Message | bytes, **options: float) -> MemoryCall:
        return self.call("ModelInfer", message, **options)

    async def answer(self, message: Message | bytes, **options: float) -> Any:
        return pb.ModelInferResponse.FromString(await self.infer(message, **options).message())

    def error(self, message: Message | bytes, **options: float) -> StatusError:
        """What is wrong with a request, found before anything is computed."""
        return self.infer(message, **options).error

    async def ask(self, method: str, message: Message) -> Any:
        answer = await self.call(method, message).message()
        return getattr(pb, f"{method}Response").FromString(answer)

    def stream(self, **options: float) -> MemoryStream:
        return stream(self.routes, f"/{SERVICE}/ModelStreamInfer", **options)

    def count(
        self, code: Code, model: str = "house_price", version: str = "1", method: str = "ModelInfer"
    ) -> float | None:
        labels = {"model": model, "version": version, "method": method, "code": code.name}
        return value(self.metrics, "triptych_requests_total", **labels)


async def open_infer_desk(folder: Path | None = None, limits: Limits = packages.SMALL) -> InferDesk:
    metrics = Metrics()
    return InferDesk(packages.open_models(folder, metrics, limits), metrics)


def request(model: str, inputs: dict[str, npt.NDArray[Any]], *, raw: bool = True, **fields: Any) -> Any:
    """A ModelInferRequest: raw data, or typed."""
    made = pb.ModelInferRequest(model_name=model, **fields)
    for name, data in inputs.items():
        add_input(made, name, data, raw=raw)
    return made


DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "object": "BYTES",
}
TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def add_input(made: Any, name: str, data: npt.NDArray[Any], *, raw: bool = True) -> Any:
    datatype = DATATYPES[str(data.dtype)]
    tensor = made.inputs.add(name=name, datatype=datatype, shape=data.shape)
    if not raw:
        getattr(tensor.contents, TYPED[datatype]).extend(data.ravel().tolist())
    elif datatype == "BYTES":
        made.raw_input_contents.append(serialize_byte_tensor(data).item())
    else:
        made.raw_input_contents.append(data.tobytes())
    return tensor


def house(rows: int = 1, *, dtype: Any = np.float32, raw: bool = True, **fields: Any) -> Any:
    """A request for the price of some houses that differ."""
    data = np.array([[*FEATURES[:5], 4 + row / 8, *FEATURES[6:]] for row in range(rows)], dtype)
    return request("house_price", {"features": data}, raw=raw, **fields)


def texts(model: str, reviews: Sequence[str], *, raw: bool = True, column: bool = False, **fields: Any) -> Any:
    """A request of texts, [n] or [n, 1]."""
    data = np.array([review.encode() for review in reviews], np.object_)
    return request(model, {"text": data[:, None] if column else data}, raw=raw, **fields)


def outputs(response: Any) -> dict[str, npt.NDArray[Any]]:
    """The tensors of an answer, raw or typed."""
    found: dict[str, npt.NDArray[Any]] = {}
    for index, tensor in enumerate(response.outputs):
        if not response.raw_output_contents:
            data = np.array(getattr(tensor.contents, TYPED[tensor.datatype]), triton_to_np_dtype(tensor.datatype))
        elif tensor.datatype == "BYTES":
            data = deserialize_bytes_tensor(response.raw_output_contents[index])
        else:
            data = np.frombuffer(response.raw_output_contents[index], triton_to_np_dtype(tensor.datatype))
        found[tensor.name] = data.reshape(tensor.shape)
    return found
