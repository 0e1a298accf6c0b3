"""The Open Inference Protocol's requests and answers as JSON, with binary tensors behind it, and the core's between.

Open Inference Protocol v2, HTTP/REST, "Inference"; Triton's extension "binary tensor data". JSON has no NaN and no
infinities: null in a tensor of floats is NaN, which says that a value is absent, and an output that is none of the
finite numbers is null.
"""

import math
from itertools import chain
from typing import Annotated, Any, Final

import msgspec

from serving.api.inference import parameters, tensors
from serving.api.inference.form import InferRequest, InferResult, OutputTensor, RequestedOutput
from serving.api.inference.messages import MAX_TENSORS
from serving.api.inference.tensors import Tensor
from serving.api.rest.reading import read
from serving.package.manifest import InputSpec
from serving.status import invalid, shown

Parameters = dict[str, Any]

_BINARY: Final = "binary_data"
_BINARY_OUTPUT: Final = "binary_data_output"
_SIZE: Final = "binary_data_size"


class InferInput(msgspec.Struct):
    """A tensor that is sent: with `data`, or with the parameter `binary_data_size`."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: Annotated[
        msgspec.Raw | msgspec.UnsetType,
        msgspec.Meta(
            description="Elements, row-major, nested as the shape says or not at all; null in a tensor of floats "
            "means that the value is absent.",
            extra_json_schema={"type": "array", "items": {}},
        ),
    ] = msgspec.UNSET


class InferOutput(msgspec.Struct):
    """A tensor that is asked for; parameters `binary_data` and `classification`."""

    name: str
    parameters: Parameters = {}


class InferBody(msgspec.Struct):
    """A request; parameters `timeout`, `priority` and `binary_data_output`."""

    inputs: list[InferInput]
    id: str = ""
    outputs: list[InferOutput] = []
    parameters: Parameters = {}


class JsonData(msgspec.Struct):
    """Data that is still JSON: it is read once it is known how much there may be of it."""

    text: bytes


_DECODER: Final = msgspec.json.Decoder(InferBody)
_ENCODER: Final = msgspec.json.Encoder()
_MAX_DIMENSIONS: Final = 64
"""Those beyond are not looked at: no manifest has as many, so that the shape is wrong as it is."""
_SHAPE_WORD: Final = b'"shape"'
_TYPE_WORD: Final = b'"datatype"'


def read_request(model: str, version: str, body: bytes, head_bytes: int | None) -> InferRequest:
    """What a body asks, of which the JSON is the first `head_bytes`, and binary tensors the rest.

    Raises:
        StatusError: INVALID_ARGUMENT or UNIMPLEMENTED.
    """
    text, behind = (body, b"") if head_bytes is None else (body[:head_bytes], body[head_bytes:])
    # Counted before each becomes an object.
    if min(text.count(_SHAPE_WORD), text.count(_TYPE_WORD)) > MAX_TENSORS:
        raise invalid(f"inputs: more than {MAX_TENSORS} tensors, more than any model has")
    found = read(_DECODER, text)
    for field, tensors_ in (("inputs", found.inputs), ("outputs", found.outputs)):
        if len(tensors_) > MAX_TENSORS:
            raise invalid(f"{field}: {len(tensors_)} tensors, more than any model has")
    schedule = parameters.schedule(found.parameters)
    default = _flag(found.parameters, _BINARY_OUTPUT, "", otherwise=False)
    inputs, position = [], 0
    for place, tensor in enumerate(found.inputs):
        where = f"inputs[{place}] ({shown(tensor.name)})"
        parameters.check_tensor(tensor.parameters, where)
        data: Any
        size = tensor.parameters.get(_SIZE)
        if size is None:
            if isinstance(tensor.data, msgspec.UnsetType):
                raise invalid(f"{where}: neither data nor parameters[{_SIZE}]")
            data = JsonData(bytes(tensor.data))
        else:
            data = _binary(tensor, size, behind, position, where)
            position += size
        inputs.append(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[:_MAX_DIMENSIONS]), data))
    if position != len(behind):
        raise invalid(f"{len(behind)} bytes follow the JSON, but the inputs' {_SIZE} add up to {position}")
    return InferRequest(
        model,
        version,
        found.id,
        inputs,
        [_output(place, output, default=default) for place, output in enumerate(found.outputs)],
        schedule.timeout,
        schedule.priority,
        carried=default,
    )


def elements(data: JsonData, spec: InputSpec, tensor: Tensor, place: int, most_rows: int) -> list[Any]:
    """The elements of a tensor in JSON, row-major, whether they were nested or not.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    where = f"inputs[{place}] ({spec.name})"
    text, most = data.text, most_rows * math.prod(spec.shape[1:])
    # Every element but the last is followed by a comma; only text has others.
    if spec.datatype != "BYTES" and text.count(b",") >= most:
        raise invalid(f"{where}: more than the {most} elements that this server takes (--max-queue-rows)")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"{where}: data can't be read: {type(error).__name__}: {error}") from None
    if not isinstance(found, list):
        raise invalid(f"{where}: data: expected an array, found {shown(repr(found))}")
    for depth, size in enumerate(tensor.shape):
        if not found or not isinstance(found[0], list):
            break
        if not depth and len(found) != size:
            raise invalid(f"{where}: data has {len(found)} rows, but its shape is {list(tensor.shape)}")
        inner = tensor.shape[depth + 1] if depth + 1 < len(tensor.shape) else None
        if any(not isinstance(row, list) or len(row) != inner for row in found):
            raise invalid(f"{where}: data is nested, but not as its shape {list(tensor.shape)} says")
        found = list(chain.from_iterable(found))
    return found


def write_result(result: InferResult, request: InferRequest) -> tuple[bytes, bytes]:
    """The JSON of an answer, and the binary tensors behind it.

    Raises:
        StatusError: INVALID_ARGUMENT: there is no JSON for an output.
    """
    binary = {output.name for output in request.outputs if output.binary}
    every = bool(request.carried) and not request.outputs
    outputs, behind = [], []
    for tensor in result.outputs:
        about: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if every or tensor.name in binary:
            raw = tensors.raw(tensor.data)
            about["parameters"] = {_SIZE: len(raw)}
            behind.append(raw)
        else:
            about["data"] = _plain(tensor)
        outputs.append(about)
    written: dict[str, Any] = {"model_name": result.model, "model_version": result.version, "outputs": outputs}
    if result.id:
        written["id"] = result.id
    return _ENCODER.encode(written), b"".join(behind)


def _binary(tensor: InferInput, size: Any, behind: bytes, position: int, where: str) -> bytes:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise invalid(f"{where}: parameters[{_SIZE}]: expected a number of bytes, found {shown(repr(size))}")
    if not isinstance(tensor.data, msgspec.UnsetType):
        raise invalid(f"{where}: both data and parameters[{_SIZE}]")
    if position + size > len(behind):
        raise invalid(
            f"{where}: parameters[{_SIZE}]: {size} bytes, but of those that follow the JSON there are "
            f"{max(0, len(behind) - position)} left (Inference-Header-Content-Length says where the JSON ends)"
        )
    return behind[position : position + size]


def _output(place: int, output: InferOutput, *, default: bool) -> RequestedOutput:
    where = f"outputs[{place}] ({shown(output.name)})"
    return RequestedOutput(
        output.name,
        parameters.class_count(output.parameters, where),
        _flag(output.parameters, _BINARY, f"{where}: ", otherwise=default),
    )


def _flag(given: Parameters, name: str, where: str, *, otherwise: bool) -> bool:
    value = given.get(name, otherwise)
    if not isinstance(value, bool):
        raise invalid(f"{where}parameters[{name}]: expected true or false, found {shown(repr(value))}")
    return value


def _plain(tensor: OutputTensor) -> list[Any]:
    if tensor.datatype != "BYTES":
        values: list[Any] = tensor.data.ravel().tolist()
        return values
    try:
        return [element.decode() for element in tensors.plain_bytes(tensor.data)]
    except UnicodeDecodeError:
        raise invalid(f"outputs: {tensor.name} has bytes that are no text; ask for it with {_BINARY}") from None
