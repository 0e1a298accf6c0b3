"""Reflection: a client that knows nothing can find every service and everything it needs to call it."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from serving.api import health
from serving.api.prediction import SERVICE as PREDICTION
from serving.api.reflection import SERVICES, Reflection
from serving.status import Code
from tests.serving.api.calls import MemoryStream, stream

OFFERED = (PREDICTION, health.SERVICE)


@pytest.fixture
def reflection() -> Reflection:
    return Reflection(OFFERED)


def open_session(reflection: Reflection, version: str = SERVICES[0]) -> MemoryStream:
    return stream(reflection.routes(), f"/{version}/ServerReflectionInfo")


def files(response: pb.ServerReflectionResponse) -> list[descriptor_pb2.FileDescriptorProto]:
    return [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in response.file_descriptor_response.file_descriptor_proto
    ]


@pytest.mark.parametrize("version", SERVICES)
def test_either_version_lists_every_service(reflection: Reflection, version: str) -> None:
    session = open_session(reflection, version)
    session.receiver.message(pb.ServerReflectionRequest(list_services="*").SerializeToString())
    [answer] = session.sent
    listed = pb.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert [service.name for service in listed] == sorted([*OFFERED, *SERVICES])
    assert not session.finished


@pytest.mark.parametrize("service", [*OFFERED, *SERVICES])
def test_every_service_that_is_listed_can_be_looked_up_and_rebuilt(reflection: Reflection, service: str) -> None:
    response = reflection.respond(pb.ServerReflectionRequest(host="here", file_containing_symbol=service))
    assert response.valid_host == "here"
    assert response.original_request.file_containing_symbol == service
    pool = descriptor_pool.DescriptorPool()  # as a client does: it knows nothing but the answer
    for file in reversed(files(response)):
        pool.AddSerializedFile(file.SerializeToString())
    assert pool.FindServiceByName(service).methods


@pytest.mark.parametrize("symbol", ["prediction.v1.House", "prediction.v1.Sentiment"])
def test_messages_and_enums_can_be_looked_up(reflection: Reflection, symbol: str) -> None:
    [file] = files(reflection.respond(pb.ServerReflectionRequest(file_containing_symbol=symbol)))
    assert file.name == "prediction/v1/prediction.proto"


def test_files_can_be_looked_up_by_name(reflection: Reflection) -> None:
    for name in ("prediction/v1/prediction.proto", "grpc_reflection/v1/reflection.proto"):
        [file] = files(reflection.respond(pb.ServerReflectionRequest(file_by_filename=name)))
        assert file.name == name


@pytest.mark.parametrize(
    "request_",
    [
        pb.ServerReflectionRequest(file_by_filename="../../etc/passwd"),
        pb.ServerReflectionRequest(file_containing_symbol=""),
        pb.ServerReflectionRequest(file_containing_symbol="prediction.v1.Weather"),
        pb.ServerReflectionRequest(file_containing_symbol="x\0y"),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="prediction.v1.House"),
        pb.ServerReflectionRequest(file_containing_extension={"containing_type": "x", "extension_number": 1}),
    ],
    ids=lambda request: request.WhichOneof("message_request"),
)
def test_what_is_not_there_is_an_answer_and_not_the_end(
    reflection: Reflection, request_: pb.ServerReflectionRequest
) -> None:
    session = open_session(reflection)
    session.receiver.message(request_.SerializeToString())
    response = pb.ServerReflectionResponse.FromString(session.sent[0])
    assert response.error_response.error_code == Code.NOT_FOUND
    assert response.error_response.error_message
    assert response.original_request == request_
    assert not session.finished


def test_a_question_that_asks_nothing_is_answered_as_such(reflection: Reflection) -> None:
    assert reflection.respond(pb.ServerReflectionRequest()).error_response.error_code == Code.INVALID_ARGUMENT


def test_a_session_ends_with_its_client_or_with_what_can_not_be_read(reflection: Reflection) -> None:
    done, broken, drained = (open_session(reflection) for _ in range(3))
    done.receiver.half_closed()
    assert done.code is Code.OK
    with pytest.raises(DecodeError):
        pb.ServerReflectionRequest.FromString(b"\xff")
    broken.receiver.message(b"\xff")
    assert broken.code is Code.INVALID_ARGUMENT
    drained.receiver.draining()
    assert drained.code is Code.UNAVAILABLE
