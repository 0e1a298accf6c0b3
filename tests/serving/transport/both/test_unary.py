"""Unary calls, on either transport: real clients, a real socket."""

import asyncio
import math
import time

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status

from serving.status import Code, Resource, StatusError, invalid
from tests.serving.transport.both.rig import (
    MAX_MESSAGE,
    Rig,
    error_of,
    everything,
    stream,
    unary,
)

pytestmark = pytest.mark.asyncio


async def test_a_call_is_answered_at_once(rig: Rig, channel: grpc.aio.Channel) -> None:
    assert await unary(channel, "Echo", b"hello") == b"hello"


async def test_an_empty_message_is_a_message(rig: Rig, channel: grpc.aio.Channel) -> None:
    assert await unary(channel, "Echo", b"") == b""
    assert rig.received == [b""]


async def test_a_call_is_answered_later_and_in_any_order(rig: Rig, channel: grpc.aio.Channel) -> None:
    first = unary(channel, "Hold")
    one = await rig.calls.get()
    second = unary(channel, "Hold")
    other = await rig.calls.get()
    other.reply(b"second")
    assert await second == b"second"
    assert not first.done()
    one.reply(b"first")
    assert await first == b"first"


async def test_a_synchronous_client_is_answered_too(rig: Rig) -> None:
    def ask() -> tuple[bytes, grpc.StatusCode, list[bytes]]:
        with grpc.insecure_channel(rig.target) as channel:
            answer = channel.unary_unary("/test.Unary/Echo")(b"hello")
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/test.Unary/Fail")(b"5")
            answers = channel.stream_stream("/test.Stream/Echo")(iter([b"a", b"b", b"c"]))
            return answer, caught.value.code(), list(answers)

    assert await asyncio.to_thread(ask) == (b"hello", grpc.StatusCode.NOT_FOUND, [b"a", b"b", b"c"])


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
async def test_every_status_reaches_the_client_with_its_message(channel: grpc.aio.Channel, code: Code) -> None:
    error = await error_of(unary(channel, "Fail", b"%d" % code))
    assert error.code() is grpc.StatusCode[code.name]
    assert error.details() == "why:\n100 % · ü"
    assert error.trailing_metadata().get("grpc-retry-pushback-ms") is None


@pytest.mark.parametrize(("seconds", "pushback"), [("0", "0"), ("0.0121", "13"), ("2", "2000")])
async def test_a_refusal_tells_when_to_try_again(channel: grpc.aio.Channel, seconds: str, pushback: str) -> None:
    error = await error_of(unary(channel, "Fail", f"8 {seconds}".encode()))
    assert error.trailing_metadata()["grpc-retry-pushback-ms"] == pushback


@pytest.mark.parametrize(("given", "kept"), [("mine", True), ("not mine", False), (None, False)])
async def test_an_error_has_details_and_the_id_of_its_request(
    channel: grpc.aio.Channel, given: str | None, *, kept: bool
) -> None:
    metadata = () if given is None else (("x-request-id", given),)
    call = unary(channel, "Fail", b"8 0.0121", metadata=metadata)
    await error_of(call)
    status = await rpc_status.aio.from_call(call)
    info, request, retry = (found() for found in (details.ErrorInfo, details.RequestInfo, details.RetryInfo))
    for message, packed in zip((info, request, retry), status.details, strict=True):
        assert packed.Unpack(message)
    assert (status.code, status.message) == (8, "why:\n100 % · ü")
    assert info.reason == "RESOURCE_EXHAUSTED"
    assert (request.request_id == given) == kept
    assert len(request.request_id) > 3
    assert retry.retry_delay.ToMilliseconds() == 13


async def test_an_error_ends_a_stream_with_the_same_details(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold", metadata=(("x-request-id", "mine"),))
    recorder = await rig.streams.get()
    recorder.stream.send(b"first")
    recorder.stream.finish(StatusError(Code.NOT_FOUND, "none", resource=Resource("model", "x")))
    assert await everything(call) == ([b"first"], grpc.StatusCode.NOT_FOUND)
    status = await rpc_status.aio.from_call(call)
    assert [packed.TypeName() for packed in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RequestInfo",
        "google.rpc.ResourceInfo",
    ]


async def test_the_longest_message_reaches_the_client(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    error = invalid("houses[1].rooms: " + "ü" * 100_000)
    (await rig.calls.get()).fail(error)
    assert (await error_of(call)).details() == error.message
    assert (await rpc_status.aio.from_call(call)).message == error.message


async def test_a_late_error_reaches_the_client(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    (await rig.calls.get()).fail(StatusError(Code.DATA_LOSS, "too bad"))
    error = await error_of(call)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "too bad")


async def test_a_fault_is_internal_and_logged_under_its_method(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    error = await error_of(unary(channel, "Break"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "private words" not in str(error.details())
    [record] = [vars(record) for record in caplog.records if record.message == "fault"]
    assert record["where"] == "/test.Unary/Break"
    assert str(error.details()).endswith(f"request_id={record['request_id']}")


@pytest.mark.parametrize("method", ["/test.Unary/Other", "/other.Unary/Echo", "/", "/test.Unary/" + "x" * 5000])
async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel, method: str) -> None:
    for call in (channel.unary_unary(method)(b""), channel.unary_stream(method)(b"").read()):
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert method[:50] in str(error.details())
        assert len(str(error.details())) < 200


async def test_a_streaming_client_may_call_a_unary_method(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream("/test.Unary/Echo")(iter([b"hello"]))
    assert await everything(call) == ([b"hello"], grpc.StatusCode.OK)


async def test_a_client_that_goes_away_is_reported_once(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    held = await rig.calls.get()
    assert not rig.cancelled.is_set()
    call.cancel()
    await rig.cancelled.wait()
    held.reply(b"to nobody")
    assert await unary(channel, "Echo", b"next") == b"next"


async def test_a_client_whose_connection_breaks_is_gone(rig: Rig) -> None:
    async with grpc.aio.insecure_channel(rig.target) as channel:
        call = unary(channel, "Hold")
        await rig.calls.get()
    await rig.cancelled.wait()
    assert call.cancelled()


async def test_an_answer_that_is_there_is_not_cancelled(rig: Rig, channel: grpc.aio.Channel) -> None:
    await unary(channel, "Echo")
    (await rig.calls.get()).on_cancel = rig.cancelled.set
    await unary(channel, "Echo")
    assert not rig.cancelled.is_set()


async def test_a_deadline_is_passed_on(rig: Rig, channel: grpc.aio.Channel) -> None:
    before = time.monotonic()
    await unary(channel, "Echo", timeout=20)
    deadline = (await rig.calls.get()).deadline
    assert before + 19 < deadline < time.monotonic() + 20.5


async def test_no_deadline_is_an_infinite_one(rig: Rig, channel: grpc.aio.Channel) -> None:
    await unary(channel, "Echo")
    assert (await rig.calls.get()).deadline == math.inf


async def test_a_client_whose_deadline_passes_is_gone(rig: Rig, channel: grpc.aio.Channel) -> None:
    error = await error_of(unary(channel, "Hold", timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await rig.cancelled.wait()


async def test_metadata_method_and_peer_are_known(rig: Rig, channel: grpc.aio.Channel) -> None:
    await unary(channel, "Echo", metadata=(("x-name", "value"), ("x-data-bin", b"\x00\xff"), ("x-name", "again")))
    call = await rig.calls.get()
    assert call.method == "/test.Unary/Echo"
    assert [pair for pair in map(tuple, call.metadata) if pair[0] == "x-name"] == [
        ("x-name", "value"),
        ("x-name", "again"),
    ]
    assert ("x-data-bin", b"\x00\xff") in list(map(tuple, call.metadata))
    assert call.peer.startswith("ipv4:127.0.0.1:")


async def test_a_message_over_the_limit_never_reaches_a_handler(rig: Rig, channel: grpc.aio.Channel) -> None:
    assert len(await unary(channel, "Echo", bytes(MAX_MESSAGE))) == MAX_MESSAGE
    error = await error_of(unary(channel, "Echo", bytes(MAX_MESSAGE + 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [len(message) for message in rig.received] == [MAX_MESSAGE]


async def test_a_message_that_is_small_only_when_packed_is_refused(rig: Rig, channel: grpc.aio.Channel) -> None:
    bomb = bytes(100 * MAX_MESSAGE)
    error = await error_of(unary(channel, "Echo", bomb, compression=grpc.Compression.Gzip))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rig.received == []


async def test_an_answer_may_be_larger_than_a_request(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    (await rig.calls.get()).reply(bytes(8 * 1024 * 1024))
    assert len(await call) == 8 * 1024 * 1024


async def test_many_calls_are_each_answered(rig: Rig, channel: grpc.aio.Channel) -> None:
    calls = [unary(channel, "Echo", b"%d" % n) for n in range(500)]
    assert await asyncio.gather(*calls) == [b"%d" % n for n in range(500)]
