"""What a server answers over gRPC to the golden examples, through both of its APIs."""

from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from gpu.check.golden import Array
from protos.prediction.v1 import prediction_pb2 as pb
from protos.prediction.v1 import prediction_pb2_grpc as pb_grpc
from serving.package.manifest import NUMPY_TYPES, InputSpec, Manifest, golden_array

TIMEOUT = 30.0
THOUSAND = 1000.0
"""Dollars in the unit of the package."""


@dataclass(frozen=True)
class Question:
    """One ModelInfer request and what must come back."""

    model: str
    version: int
    message: bytes
    expected: list[Array] = field(default_factory=list)
    """Outputs in the manifest's order; none where only the shape is known."""
    rows: int = 1


def question(manifest: Manifest, inputs: dict[str, list[Any]], expected: list[Array]) -> Question:
    """Ask for these raw rows, such as golden ones."""
    rows = len(next(iter(inputs.values())))
    tensors = [
        oip.ModelInferRequest.InferInputTensor(name=spec.name, datatype=spec.datatype, shape=[rows, *spec.shape[1:]])
        for spec in manifest.inputs
    ]
    blobs = [_raw(spec, inputs[spec.name]) for spec in manifest.inputs]
    outputs = [oip.ModelInferRequest.InferRequestedOutputTensor(name=spec.name) for spec in manifest.outputs]
    message = oip.ModelInferRequest(
        model_name=manifest.name,
        model_version=str(manifest.version),
        inputs=tensors,
        outputs=outputs,
        raw_input_contents=blobs,
    )
    return Question(manifest.name, manifest.version, message.SerializeToString(), expected, rows)


def outputs(message: bytes) -> list[Array]:
    """The tensors of a ModelInfer response."""
    response = oip.ModelInferResponse.FromString(message)
    found = []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if tensor.datatype == "BYTES":
            array = deserialize_bytes_tensor(raw)
        else:
            array = np.frombuffer(raw, NUMPY_TYPES[tensor.datatype])
        found.append(array.reshape(tensor.shape))
    return found


class Asker:
    """A caller of one server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.inference = oip_grpc.GRPCInferenceServiceStub(channel)
        self._typed: Any = pb_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
        self._infer = channel.unary_unary(METHOD)

    def infer(self, asked: Question) -> list[Array]:
        """Through the Open Inference Protocol."""
        return outputs(self._infer(asked.message, timeout=TIMEOUT))

    def typed(self, manifest: Manifest) -> Array | None:
        """Through the typed API: one number for each golden row, in the package's unit; None for a model without one.

        Of a topic model it is each topic's probability.
        """
        golden, version = manifest.golden.inputs, str(manifest.version)
        if manifest.name == "sentiment":
            request = pb.PredictSentimentRequest(reviews=golden["text"], version=version)
            answer = self._typed.PredictSentiment(request, timeout=TIMEOUT)
            return np.array([one.positive_probability for one in answer.predictions])
        if manifest.name == "topic":
            every = manifest.outputs[0].shape[1]
            wanted = pb.PredictTopicRequest(newswires=golden["text"], version=version, top_k=every)
            answer = self._typed.PredictTopic(wanted, timeout=TIMEOUT)
            ranked = [sorted(one.topics, key=lambda topic: topic.topic_id) for one in answer.predictions]
            return np.array([[topic.probability for topic in topics] for topics in ranked])
        if manifest.name == "house_price":
            names = [each.name for each in pb.House.DESCRIPTOR.fields]
            houses = [
                pb.House(**{name: value for name, value in zip(names, row, strict=True) if value is not None})
                for row in golden["features"]
            ]
            answer = self._typed.PredictHousePrice(
                pb.PredictHousePriceRequest(houses=houses, version=version), timeout=TIMEOUT
            )
            return np.array([one.price_usd / THOUSAND for one in answer.predictions])
        return None


METHOD = f"/{oip.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/ModelInfer"


def _raw(spec: InputSpec, values: list[Any]) -> bytes:
    if spec.datatype == "BYTES":
        texts = np.array([text.encode() for text in values], np.object_)
        return bytes(serialize_byte_tensor(texts).item())
    return golden_array(values, spec.datatype).tobytes()
