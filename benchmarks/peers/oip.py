"""The Open Inference Protocol's ModelInfer, as much of it as one small request and its reply need.

Built here from field numbers, in a pool of its own: the project has no generated code of that protocol, and what a
peer answers must be read by something that is not the peer.
"""

import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/inference.GRPCInferenceService/ModelInfer"

_STRING, _BYTES, _INT64, _FLOAT, _MESSAGE = 9, 12, 3, 2, 11
_MESSAGES: dict[str, dict[str, tuple[int, int, bool, str]]] = {
    "Contents": {"fp32_contents": (6, _FLOAT, True, ""), "bytes_contents": (8, _BYTES, True, "")},
    # The same fields for inputs and outputs.
    "Tensor": {
        "name": (1, _STRING, False, ""),
        "datatype": (2, _STRING, False, ""),
        "shape": (3, _INT64, True, ""),
        "contents": (5, _MESSAGE, False, "Contents"),
    },
    "Request": {
        "model_name": (1, _STRING, False, ""),
        "inputs": (5, _MESSAGE, True, "Tensor"),
        "raw_input_contents": (7, _BYTES, True, ""),
    },
    "Reply": {
        "model_name": (1, _STRING, False, ""),
        "outputs": (5, _MESSAGE, True, "Tensor"),
        "raw_output_contents": (6, _BYTES, True, ""),
    },
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="oip.proto", package="oip", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated, inner) in fields.items():
            added = message.field.add(name=field, number=number, type=kind, label=3 if repeated else 1)
            if inner:
                added.type_name = f".oip.{inner}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oip.{name}")) for name in _MESSAGES}


_CLASSES = _classes()


def house(row: list[float], *, raw: bool) -> bytes:
    """A request for the price of one house."""
    if raw:
        return _request("house_price", "features", "FP32", [1, len(row)], struct.pack(f"<{len(row)}f", *row))
    return _request("house_price", "features", "FP32", [1, len(row)], {"fp32_contents": row})


def sentiment(text: str, *, raw: bool, shape: list[int]) -> bytes:
    """A request for the label of one text."""
    data = text.encode()
    if raw:
        return _request("sentiment", "text", "BYTES", shape, struct.pack("<I", len(data)) + data)
    return _request("sentiment", "text", "BYTES", shape, {"bytes_contents": [data]})


def price(reply: bytes) -> float:
    """What a reply says that the house is worth."""
    found = _CLASSES["Reply"].FromString(reply)
    if found.raw_output_contents:
        [value] = struct.unpack("<f", found.raw_output_contents[0])
    else:
        [value] = found.outputs[0].contents.fp32_contents
    return float(value)


def label(reply: bytes) -> str:
    """What a reply says that the text is."""
    found = _CLASSES["Reply"].FromString(reply)
    if found.raw_output_contents:
        data = found.raw_output_contents[0]
        if struct.unpack_from("<I", data) != (len(data) - 4,):
            raise ValueError(f"not one label: {data!r}")
        return str(data[4:].decode())
    [value] = found.outputs[0].contents.bytes_contents
    return str(value.decode())


def _request(model: str, name: str, datatype: str, shape: list[int], value: bytes | dict[str, Any]) -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    if isinstance(value, bytes):
        request = _CLASSES["Request"](model_name=model, inputs=[tensor], raw_input_contents=[value])
    else:
        request = _CLASSES["Request"](model_name=model, inputs=[tensor | {"contents": value}])
    return bytes(request.SerializeToString())
