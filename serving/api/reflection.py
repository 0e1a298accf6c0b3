"""Server reflection: lets grpcurl and its like explore the services without their proto files.

gRPC Server Reflection Protocol (grpc/grpc, doc/server-reflection.md). Versions v1 and v1alpha are the
same bytes under two names.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from serving.api.call import Receiver, Routes, Stream, Streaming, shutting_down
from serving.status import Code, invalid

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    """Answers from the descriptors of the services that are offered."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = sorted({*services, *SERVICES})
        self._pools: list[Any] = [descriptor_pool.Default(), _v1_pool()]  # type: ignore[no-untyped-call]

    def routes(self) -> Routes:
        """The method of either version."""
        return {f"/{service}/ServerReflectionInfo": Streaming(partial(_Session, self)) for service in SERVICES}

    def respond(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        """The answer to one question."""
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            if kind == "list_services":
                response.list_services_response.service.extend(
                    pb.ServiceResponse(name=service) for service in self._services
                )
            elif kind == "file_by_filename":
                self._add_files(response, self._find(lambda pool: pool.FindFileByName(request.file_by_filename)))
            elif kind == "file_containing_symbol":
                symbol = request.file_containing_symbol
                self._add_files(response, self._find(lambda pool: pool.FindFileContainingSymbol(symbol)))
            elif kind in ("file_containing_extension", "all_extension_numbers_of_type"):
                raise KeyError("extensions are not used here")
            else:
                response.error_response.error_code = Code.INVALID_ARGUMENT
                response.error_response.error_message = "message_request: expected one, got none"
        except KeyError as error:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = str(error.args[0])
        return response

    def _find(self, look: Callable[[Any], Any]) -> Any:
        try:
            return look(self._pools[0])
        except KeyError:
            return look(self._pools[1])

    def _add_files(self, response: pb.ServerReflectionResponse, file: Any) -> None:
        """The file and, so that the client need not ask again, all that it imports."""
        todo, seen = [file], set()
        while todo:
            current = todo.pop()
            if current.name not in seen:
                seen.add(current.name)
                response.file_descriptor_response.file_descriptor_proto.append(current.serialized_pb)
                todo += current.dependencies


def _v1_pool() -> Any:
    """Holds the file of reflection v1, made from that of v1alpha: grpcio-reflection ships no other."""
    alpha = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(alpha)
    v1 = text_format.Parse(text_format.MessageToString(alpha).replace("v1alpha", "v1"), type(alpha)())
    pool: Any = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(v1.SerializeToString())
    return pool


class _Session(Receiver):
    """One client asking."""

    def __init__(self, reflection: Reflection, stream: Stream) -> None:
        self._reflection = reflection
        self._stream = stream

    def message(self, message: bytes) -> None:
        """A question."""
        try:
            request = pb.ServerReflectionRequest.FromString(message)
        except DecodeError:
            self._stream.finish(invalid("the message can't be read as a ServerReflectionRequest"))
            return
        self._stream.send(self._reflection.respond(request).SerializeToString())

    def half_closed(self) -> None:
        """No more questions."""
        self._stream.finish()

    def draining(self) -> None:
        """Every question so far is answered."""
        self._stream.finish(shutting_down())
