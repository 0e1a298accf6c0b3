"""The protocol's gRPC messages, read and written: ModelInferRequest to `InferRequest`, `InferResult` to bytes.

Data comes and goes either raw, all of it, or typed (Open Inference Protocol v2, gRPC, "Tensor Data"); FP16 has no
typed form. Raw is answered raw, typed typed.
"""

from dataclasses import dataclass
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from serving.api.inference import parameters, tensors
from serving.api.inference.form import InferRequest, InferResult, RequestedOutput
from serving.api.inference.tensors import Tensor
from serving.status import invalid, shown

MAX_TENSORS: Final = 256
"""Inputs of one request, and outputs."""

_MAX_DIMENSIONS: Final = 64
"""Those beyond are not looked at: no manifest has as many, so that the shape is wrong as it is."""

CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of typed data, by datatype."""

FINAL: Final = "triton_final_response"
"""True in each answer of a stream: no request has more than one."""


@dataclass(slots=True)
class Manner:
    """How a request came, and so its answer goes."""

    raw: bool
    streamed: bool
    message: bytes
    """Until it is known to be good."""


def read(request: Any, message: bytes, *, streamed: bool = False) -> InferRequest:
    """What a parsed ModelInferRequest asks; it was parsed from `message`.

    Raises:
        StatusError: INVALID_ARGUMENT or UNIMPLEMENTED.
    """
    for field in ("inputs", "outputs"):
        if len(getattr(request, field)) > MAX_TENSORS:
            raise invalid(f"{field}: {len(getattr(request, field))} tensors, more than any model has")
    schedule = parameters.schedule(_plain(request.parameters))
    for index, tensor in enumerate(request.inputs):
        if tensor.parameters:
            parameters.check_tensor(_plain(tensor.parameters), f"inputs[{index}] ({shown(tensor.name)})")
    raw = len(request.raw_input_contents) > 0
    return InferRequest(
        request.model_name,
        request.model_version,
        request.id,
        _raw_inputs(request) if raw else [_typed_input(index, tensor) for index, tensor in enumerate(request.inputs)],
        [_requested(index, output) for index, output in enumerate(request.outputs)],
        schedule.timeout,
        schedule.priority,
        Manner(raw, streamed, message),
    )


def write(result: InferResult, *, raw: bool, streamed: bool) -> bytes:
    """A ModelInferResponse."""
    response = pb.ModelInferResponse(model_name=result.model, model_version=result.version, id=result.id)
    if streamed:
        response.parameters[FINAL].bool_param = True
    raw = raw or any(output.datatype not in CONTENTS for output in result.outputs)
    for output in result.outputs:
        tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if raw:
            response.raw_output_contents.append(tensors.raw(output.data))
        elif output.datatype == "BYTES":
            tensor.contents.bytes_contents.extend(tensors.plain_bytes(output.data))
        else:
            getattr(tensor.contents, CONTENTS[output.datatype]).extend(output.data.ravel().tolist())
    written: bytes = response.SerializeToString()
    return written


def _plain(found: Any) -> dict[str, parameters.Value]:
    """Those parameters that mean something."""
    if not found:
        return {}
    return {name: _value(found[name]) for name in parameters.KNOWN if name in found}


def _value(parameter: Any) -> parameters.Value:
    chosen = parameter.WhichOneof("parameter_choice")
    value: parameters.Value = "" if chosen is None else getattr(parameter, chosen)
    return value


def _requested(index: int, output: Any) -> RequestedOutput:
    if not output.parameters:
        return RequestedOutput(output.name)
    where = f"outputs[{index}] ({shown(output.name)})"
    return RequestedOutput(output.name, parameters.class_count(_plain(output.parameters), where))


def _raw_inputs(request: Any) -> list[Tensor]:
    contents = request.raw_input_contents
    if len(contents) != len(request.inputs):
        raise invalid(f"raw_input_contents: {len(contents)} for {len(request.inputs)} inputs; each has one")
    for index, tensor in enumerate(request.inputs):
        if tensor.HasField("contents"):
            raise invalid(
                f"inputs[{index}] ({shown(tensor.name)}): contents beside raw_input_contents; data is either all typed "
                "or all raw"
            )
    return [
        Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[:_MAX_DIMENSIONS]), data)
        for tensor, data in zip(request.inputs, contents, strict=True)
    ]


def _typed_input(index: int, tensor: Any) -> Tensor:
    field = CONTENTS.get(tensor.datatype, "")
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            expected = field or "raw_input_contents, its only form"
            raise invalid(
                f"inputs[{index}] ({shown(tensor.name)}): data of {shown(tensor.datatype)} belongs in {expected}; "
                f"found {other.name}"
            )
    data = getattr(tensor.contents, field) if field else ()
    return Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[:_MAX_DIMENSIONS]), data)
