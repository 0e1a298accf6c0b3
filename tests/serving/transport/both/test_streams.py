"""Streams, on either transport."""

import asyncio
import contextlib
import time

import grpc
import grpc.aio
import pytest

from serving.status import Code, StatusError
from serving.transport.grpcio import MAX_UNSENT
from tests.serving.transport.both.rig import (
    MAX_MESSAGE,
    Rig,
    everything,
    stream,
    unary,
)

pytestmark = pytest.mark.asyncio


async def test_messages_go_both_ways_in_order(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Echo")
    for n in range(3):
        await call.write(b"%d" % n)
        assert await call.read() == b"%d" % n
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_many_messages_at_once_keep_their_order(rig: Rig, channel: grpc.aio.Channel) -> None:
    messages = [b"%d" % n for n in range(2000)]
    call = channel.stream_stream("/test.Stream/Echo")(iter(messages))
    assert await everything(call) == (messages, grpc.StatusCode.OK)


async def test_a_handler_may_speak_first_and_end_first(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    for message in (b"a", b"", b"c"):
        recorder.stream.send(message)
    recorder.stream.finish()
    assert await everything(call) == ([b"a", b"", b"c"], grpc.StatusCode.OK)


async def test_a_handler_may_answer_when_all_is_there(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = channel.stream_unary("/test.Stream/Hold")(iter([b"a", b"b"]))
    recorder = await rig.streams.get()
    await recorder.ended.wait()
    assert recorder.messages == [b"a", b"b"]
    recorder.stream.send(b"sum")
    recorder.stream.finish()
    assert await call == b"sum"


async def test_a_stream_knows_its_call(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold", timeout=20, metadata=(("x-name", "value"),))
    context = (await rig.streams.get()).stream
    assert context.method == "/test.Stream/Hold"
    assert ("x-name", "value") in list(map(tuple, context.metadata))
    assert 0 < context.deadline - time.monotonic() < 20.5
    call.cancel()


async def test_an_error_ends_a_stream_after_what_was_sent(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    recorder.stream.send(b"a")
    recorder.stream.send(b"b")
    recorder.stream.finish(StatusError(Code.RESOURCE_EXHAUSTED, "enough", retry_after=0.5))
    recorder.stream.send(b"too late")
    recorder.stream.finish()
    assert await everything(call) == ([b"a", b"b"], grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert await call.details() == "enough"
    assert (await call.trailing_metadata())["grpc-retry-pushback-ms"] == "500"
    assert recorder.cancelled.is_set(), "the handler is told, so that it lets go of what it holds"


async def test_a_fault_in_a_stream_is_internal(
    rig: Rig, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    call = stream(channel, "Echo")
    await call.write(b"a")
    await call.write(b"break")
    assert await everything(call) == ([b"a"], grpc.StatusCode.INTERNAL)
    assert "private words" not in await call.details()
    [record] = [vars(record) for record in caplog.records if record.message == "fault"]
    assert record["where"] == "/test.Stream/Echo"
    assert (await rig.streams.get()).cancelled.is_set()


async def test_a_fault_in_opening_a_stream_is_internal(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    call = stream(channel, "Break")
    assert await everything(call) == ([], grpc.StatusCode.INTERNAL)
    assert "private words" not in await call.details()
    assert [vars(record)["where"] for record in caplog.records if record.message == "fault"] == ["/test.Stream/Break"]


async def test_a_stream_that_its_client_cancels_is_reported_once(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    await call.write(b"a")
    await recorder.until(1)
    call.cancel()
    await recorder.cancelled.wait()
    recorder.stream.send(b"to nobody")
    recorder.stream.finish()
    assert await unary(channel, "Echo", b"next") == b"next"


async def test_a_stream_cancelled_while_much_is_unsent_is_let_go(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    for _ in range(2 * MAX_UNSENT):
        recorder.stream.send(bytes(65_536))
    await call.read()
    call.cancel()
    await recorder.cancelled.wait()
    assert await unary(channel, "Echo", b"next") == b"next"


async def test_a_message_over_the_limit_ends_its_stream(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    await call.write(b"a")
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(bytes(MAX_MESSAGE + 1))
    assert await everything(call) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
    await recorder.cancelled.wait()
    assert recorder.messages == [b"a"]


async def test_a_paused_stream_is_not_read(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Paused")
    recorder = await rig.streams.get()
    for n in range(5):
        await call.write(b"%d" % n)
    await call.done_writing()
    for _ in range(10):
        await unary(channel, "Echo")
    assert recorder.messages == []
    recorder.stream.resume_reading()
    await recorder.ended.wait()
    assert recorder.messages == [b"0", b"1", b"2", b"3", b"4"]
    recorder.stream.finish()


async def test_a_client_that_does_not_read_is_not_read_either(rig: Rig, channel: grpc.aio.Channel) -> None:
    sent = [b"%d" % (n % 10) for n in range(3 * MAX_UNSENT)]
    call = stream(channel, "Grow")
    recorder = await rig.streams.get()
    for message in sent:
        await call.write(message)
    await call.done_writing()
    await recorder.until(MAX_UNSENT)
    settled = 0
    while settled < len(recorder.messages):  # until no more of it was read while other calls went through
        settled = len(recorder.messages)
        for _ in range(20):
            await unary(channel, "Echo")
    assert settled < 2 * MAX_UNSENT
    read = [await call.read() for _ in sent]
    assert [message[:1] for message in read] == sent
    assert await call.code() is grpc.StatusCode.OK
