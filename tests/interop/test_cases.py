"""The cases of gRPC's interop test descriptions (grpc/doc/interop-test-descriptions.md), under their names there.

Each with grpcio's two clients, on each transport. Left out: what needs credentials, or a server that sends
metadata or compresses, which ours does not.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from serving.transport.grpcio import GrpcioTransport
from serving.transport.interface import Transport
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport
from tests.interop.callers import AioCaller, Caller, SyncCaller
from tests.interop.service import MAX_MESSAGE, Service, make, payload

PATIENCE = 30.0
"""Seconds after which a test has failed."""

REQUEST_SIZES = [27182, 8, 1828, 45904]
RESPONSE_SIZES = [31415, 9, 2653, 58979]

TRANSPORTS: dict[str, Callable[[], Transport]] = {
    "grpcio": lambda: GrpcioTransport(MAX_MESSAGE),
    "native": lambda: NativeTransport(Limits(max_message_bytes=MAX_MESSAGE)),
}

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(params=TRANSPORTS)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Service, str]]:
    """The test service, and where it listens."""
    service, transport = Service(), TRANSPORTS[request.param]()
    target = f"127.0.0.1:{transport.bind('127.0.0.1:0')}"
    await transport.start(service.routes())
    async with asyncio.timeout(PATIENCE):
        yield service, target
        await transport.stop(0)


@pytest.fixture
def service(served: tuple[Service, str]) -> Service:
    return served[0]


@pytest_asyncio.fixture(params=[SyncCaller, AioCaller])
async def caller(request: pytest.FixtureRequest, served: tuple[Service, str]) -> AsyncIterator[Caller]:
    async with request.param(served[1]) as caller:
        yield caller


async def error_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def sizes(talk: Any) -> list[int]:
    """Sizes of all payloads until the end."""
    found = []
    while (message := await talk.read()) is not None:
        found.append(len(make("StreamingOutputCallResponse").FromString(message).payload.body))
    return found


def output(*sizes: int, **fields: Any) -> Any:
    wanted = [make("ResponseParameters", size=size) for size in sizes]
    return make("StreamingOutputCallRequest", response_parameters=wanted, **fields)


async def large_unary_call(caller: Caller, **options: Any) -> None:
    request = make("SimpleRequest", response_size=314159, payload=payload(271828))
    answer = make("SimpleResponse").FromString(await caller.unary("UnaryCall", request, **options))
    assert answer == make("SimpleResponse", payload=payload(314159))


async def test_empty_unary(caller: Caller) -> None:
    assert await caller.unary("EmptyCall", make("Empty")) == b""


async def test_large_unary(caller: Caller) -> None:
    await large_unary_call(caller)


async def test_client_compressed_unary(caller: Caller) -> None:
    await large_unary_call(caller, compression=grpc.Compression.Gzip)
    await large_unary_call(caller, compression=grpc.Compression.NoCompression)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=str)
async def test_client_streaming(caller: Caller, compression: grpc.Compression) -> None:
    talk = caller.talk("StreamingInputCall", compression=compression)
    for size in REQUEST_SIZES:
        await talk.write(make("StreamingInputCallRequest", payload=payload(size)))
    await talk.done_writing()
    answer = make("StreamingInputCallResponse").FromString(await talk.read())
    assert answer.aggregated_payload_size == 74922
    assert await talk.read() is None
    assert await talk.status() == (grpc.StatusCode.OK, "")


async def test_server_streaming(caller: Caller) -> None:
    talk = caller.talk("StreamingOutputCall")
    await talk.write(output(*RESPONSE_SIZES))
    await talk.done_writing()
    assert await sizes(talk) == RESPONSE_SIZES
    assert await talk.status() == (grpc.StatusCode.OK, "")


async def test_ping_pong(caller: Caller) -> None:
    talk = caller.talk("FullDuplexCall")
    for asked, sent in zip(RESPONSE_SIZES, REQUEST_SIZES, strict=True):
        await talk.write(output(asked, payload=payload(sent)))
        answer = make("StreamingOutputCallResponse").FromString(await talk.read())
        assert len(answer.payload.body) == asked
    await talk.done_writing()
    assert await talk.read() is None
    assert await talk.status() == (grpc.StatusCode.OK, "")


async def test_empty_stream(caller: Caller) -> None:
    talk = caller.talk("FullDuplexCall")
    await talk.done_writing()
    assert await talk.read() is None
    assert await talk.status() == (grpc.StatusCode.OK, "")


async def test_custom_metadata(caller: Caller, service: Service) -> None:
    metadata = (
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    )
    await large_unary_call(caller, metadata=metadata)
    talk = caller.talk("FullDuplexCall", metadata=metadata)
    await talk.write(output(314159, payload=payload(271828)))
    await talk.done_writing()
    assert await sizes(talk) == [314159]
    # Our transports send no metadata of a handler's, so that it is not echoed: the handler has seen it.
    for context in (await service.contexts.get(), await service.contexts.get()):
        assert set(metadata) <= set(map(tuple, context.metadata))


async def test_status_code_and_message(caller: Caller) -> None:
    status = make("EchoStatus", code=2, message="test status message")
    expected = (grpc.StatusCode.UNKNOWN, "test status message")
    assert await error_of(caller.unary("UnaryCall", make("SimpleRequest", response_status=status))) == expected
    talk = caller.talk("FullDuplexCall")
    await talk.write(output(response_status=status))
    assert await talk.read() is None
    assert await talk.status() == expected


async def test_special_status_message(caller: Caller) -> None:
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
    request = make("SimpleRequest", response_status=make("EchoStatus", code=2, message=message))
    assert await error_of(caller.unary("UnaryCall", request)) == (grpc.StatusCode.UNKNOWN, message)


async def test_unimplemented_method(caller: Caller) -> None:
    code, _ = await error_of(caller.unary("UnimplementedCall", make("Empty")))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_unimplemented_service(caller: Caller) -> None:
    code, _ = await error_of(caller.unary("/grpc.testing.UnimplementedService/UnimplementedCall", make("Empty")))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(caller: Caller, service: Service) -> None:
    talk = caller.talk("StreamingInputCall")
    await service.contexts.get()
    talk.cancel()
    assert (await talk.status())[0] is grpc.StatusCode.CANCELLED
    await service.cancelled.wait()


async def test_cancel_after_first_response(caller: Caller, service: Service) -> None:
    talk = caller.talk("FullDuplexCall")
    await talk.write(output(31415, payload=payload(27182)))
    assert await talk.read() is not None
    talk.cancel()
    assert (await talk.status())[0] is grpc.StatusCode.CANCELLED
    await service.cancelled.wait()


async def test_timeout_on_sleeping_server(caller: Caller, service: Service) -> None:
    await caller.unary("EmptyCall", make("Empty"))  # so that the deadline does not pass before there is a connection
    await service.contexts.get()
    talk = caller.talk("FullDuplexCall", timeout=0.2)
    await service.contexts.get()
    await talk.write(output(payload=payload(27182)))
    assert await talk.read() is None
    assert (await talk.status())[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    await service.cancelled.wait()


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    # grpc.aio's poller, shared by client and server here, sometimes finds its wake-up already read.
    assert [record for record in errors if "PollerCompletionQueue" not in record.getMessage()] == []
