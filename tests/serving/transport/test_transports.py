"""The transport over grpc.aio: real clients, a real socket, and handlers that do one thing each."""

import asyncio
import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError
from serving.transport.grpcio import MAX_UNSENT, GrpcioTransport
from serving.transport.interface import Transport, TransportError
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport

pytestmark = pytest.mark.asyncio

MAX_MESSAGE = 100_000
PATIENCE = 30.0
"""Seconds after which a test has failed. Nothing here waits that long, or for any time at all, to pass."""


class Recorder(Receiver):
    """The handler's side of one stream: it keeps what comes, and a test answers."""

    def __init__(self, stream: Stream, echo: Callable[[bytes], bytes] | None = None) -> None:
        self.stream = stream
        self.messages: list[bytes] = []
        self.ended = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.told_to_drain = False
        self._came = asyncio.Event()
        self._echo = echo
        self._cancels = 0
        stream.on_cancel = self._cancel

    def message(self, message: bytes) -> None:
        self.messages.append(message)
        self._came.set()
        if message == b"break":
            raise ZeroDivisionError("private words")
        if self._echo:
            self.stream.send(self._echo(message))

    def half_closed(self) -> None:
        self.ended.set()
        if self._echo:
            self.stream.finish()

    def draining(self) -> None:
        self.told_to_drain = True
        self.stream.finish(StatusError(Code.UNAVAILABLE, "draining"))

    async def until(self, messages: int) -> None:
        while len(self.messages) < messages:
            self._came.clear()
            await self._came.wait()

    def _cancel(self) -> None:
        self._cancels += 1
        assert self._cancels == 1, "on_cancel is called at most once"
        self.cancelled.set()


KINDS: dict[str, Callable[[], Transport]] = {
    "grpcio": lambda: GrpcioTransport(MAX_MESSAGE),
    "native": lambda: NativeTransport(Limits(max_message_bytes=MAX_MESSAGE)),
}
AGEING: dict[str, Callable[[float, float], Transport]] = {
    "grpcio": lambda age, grace: GrpcioTransport(MAX_MESSAGE, max_age=age, age_grace=grace),
    "native": lambda age, grace: NativeTransport(Limits(MAX_MESSAGE, max_age=age, age_grace=grace)),
}
kind = "native"


@pytest.fixture(params=KINDS, autouse=True)
def both(request: pytest.FixtureRequest) -> None:
    """Every test is run on each transport."""
    global kind
    kind = request.param


def make() -> Transport:
    return KINDS[kind]()


class Rig:
    """A transport that serves the test's routes, and what arrived there."""

    def __init__(self, transport: Transport | None = None) -> None:
        self.transport = transport or make()
        self.port = self.transport.bind("127.0.0.1:0")
        self.target = f"127.0.0.1:{self.port}"
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.streams: asyncio.Queue[Recorder] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.received: list[bytes] = []

    def routes(self) -> Routes:
        return {
            "/test.Unary/Echo": Unary(self._echo),
            "/test.Unary/Hold": Unary(lambda call, message: self._hold(call)),
            "/test.Unary/Fail": Unary(self._fail),
            "/test.Unary/Break": Unary(self._break),
            "/test.Stream/Hold": Streaming(self._open),
            "/test.Stream/Echo": Streaming(lambda stream: self._open(stream, lambda message: message)),
            "/test.Stream/Grow": Streaming(lambda stream: self._open(stream, lambda message: message * 65_536)),
            "/test.Stream/Paused": Streaming(self._open_paused),
            "/test.Stream/Break": Streaming(self._break_stream),
        }

    def _echo(self, call: Call, message: bytes) -> None:
        self.received.append(message)
        self.calls.put_nowait(call)
        call.reply(message)

    def _hold(self, call: Call) -> None:
        call.on_cancel = self.cancelled.set
        self.calls.put_nowait(call)

    def _fail(self, call: Call, message: bytes) -> None:
        number, _, after = message.decode().partition(" ")
        call.fail(StatusError(Code(int(number)), "why:\n100 % · ü", retry_after=float(after) if after else None))

    def _break(self, call: Call, message: bytes) -> None:
        raise ZeroDivisionError("private words")

    def _open(self, stream: Stream, echo: Callable[[bytes], bytes] | None = None) -> Receiver:
        recorder = Recorder(stream, echo)
        self.streams.put_nowait(recorder)
        return recorder

    def _open_paused(self, stream: Stream) -> Receiver:
        stream.pause_reading()
        return self._open(stream)

    def _break_stream(self, stream: Stream) -> Receiver:
        raise ZeroDivisionError("private words")


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.transport.start(rig.routes())
    async with asyncio.timeout(PATIENCE):
        yield rig
        await rig.transport.stop(0)


@pytest_asyncio.fixture
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(rig.target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do, gRPC and asyncio find no exception that slipped through."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    # grpc.aio's poller, shared by client and server here, sometimes finds its wake-up already read.
    errors = [record for record in errors if "PollerCompletionQueue" not in record.getMessage()]
    assert [record for record in errors if record.name != "serving.status"] == []


def unary(channel: grpc.aio.Channel, method: str, message: bytes = b"", **options: Any) -> Any:
    return channel.unary_unary(f"/test.Unary/{method}")(message, **options)


def stream(channel: grpc.aio.Channel, method: str, **options: Any) -> Any:
    return channel.stream_stream(f"/test.Stream/{method}")(**options)


async def error_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def everything(call: Any) -> tuple[list[bytes], grpc.StatusCode]:
    """All messages of a stream, and how it ended."""
    messages = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        messages = [message async for message in _kept(call, messages)]
    return messages, await call.code()


async def _kept(call: Any, messages: list[bytes]) -> AsyncIterator[bytes]:
    async for message in call:
        messages.append(message)
        yield message


# Unary calls.


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
    assert str(error.details()).endswith(f"fault={record['fault']}")


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


# Streams.


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


# The end.


async def test_what_is_in_flight_is_answered_before_the_end(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    held = await rig.calls.get()
    stop = asyncio.create_task(rig.transport.stop(PATIENCE))
    await closed(rig)
    assert not stop.done()
    held.reply(b"in time")
    assert await call == b"in time"
    await stop


async def closed(rig: Rig) -> None:
    """Until the port takes no connection: a socket leaves no other way to see it than to try."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_no_call_is_taken_after_the_end(rig: Rig, channel: grpc.aio.Channel) -> None:
    await unary(channel, "Echo")
    await rig.transport.stop(0)
    error = await error_of(unary(channel, "Echo"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_is_not_answered_in_time_is_cancelled(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    await rig.calls.get()
    await rig.transport.stop(0.01)
    error = await error_of(call)
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    await rig.cancelled.wait()


async def test_a_second_stop_hurries_the_first(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = unary(channel, "Hold")
    await rig.calls.get()
    patient = asyncio.create_task(rig.transport.stop(1000))
    await closed(rig)
    await rig.transport.stop(0)
    await patient
    await error_of(call)
    await rig.cancelled.wait()


async def test_open_streams_are_told_and_may_end_by_themselves(rig: Rig, channel: grpc.aio.Channel) -> None:
    call = stream(channel, "Hold")
    recorder = await rig.streams.get()
    recorder.stream.send(b"last words")
    await rig.transport.stop(PATIENCE)
    assert recorder.told_to_drain
    assert await everything(call) == ([b"last words"], grpc.StatusCode.UNAVAILABLE)
    assert await call.details() == "draining"


async def test_a_transport_that_never_started_can_stop() -> None:
    transport = make()
    transport.bind("127.0.0.1:0")
    await transport.stop(0)


# Age.


@asynccontextmanager
async def ageing(age: float, grace: float) -> AsyncIterator[Rig]:
    rig = Rig(AGEING[kind](age, grace))
    await rig.transport.start(rig.routes())
    try:
        async with asyncio.timeout(PATIENCE):
            yield rig
    finally:
        await rig.transport.stop(0)


async def test_a_connection_that_is_old_is_replaced_and_nobody_notices() -> None:
    async with ageing(0.1, PATIENCE) as rig, grpc.aio.insecure_channel(rig.target) as channel:
        held = unary(channel, "Hold")
        first = await rig.calls.get()
        peers = set()
        while len(peers) < 3:
            await unary(channel, "Echo")
            peers.add((await rig.calls.get()).peer)
        first.reply(b"in time")
        assert await held == b"in time"


async def test_a_connection_that_is_old_and_does_not_end_is_cut() -> None:
    async with ageing(0.05, 0.05) as rig, grpc.aio.insecure_channel(rig.target) as channel:
        error = await error_of(unary(channel, "Hold"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        await rig.cancelled.wait()


# Addresses.


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def bind_error(address: str) -> str:
    with pytest.raises(TransportError) as caught:
        make().bind(address)
    return str(caught.value)


async def test_a_busy_port_is_named(busy: int) -> None:
    assert bind_error(f"127.0.0.1:{busy}") == f"can't listen on 127.0.0.1:{busy}: address already in use"


async def test_two_servers_can_not_share_a_port(rig: Rig, channel: grpc.aio.Channel) -> None:
    assert "address already in use" in bind_error(rig.target)
    assert await unary(channel, "Echo", b"mine") == b"mine"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:65536", "a port is at most 65535"),
        ("127.0.0.1:99999", "a port is at most 65535"),
        ("999.0.0.1:0", "name or service not known"),
        ("no.such.host.invalid:0", ""),
        ("x" * 64 + ":0", ""),
        ("192.0.2.1:0", "cannot assign requested address"),
    ],
)
async def test_an_address_that_can_not_be_had_is_refused_with_a_reason(address: str, reason: str) -> None:
    message = bind_error(address)
    assert message.startswith(f"can't listen on {address}: ")
    assert reason in message


async def test_port_0_takes_a_free_one() -> None:
    one, other = make(), make()
    assert one.bind("127.0.0.1:0") != other.bind("127.0.0.1:0")
    for transport in (one, other):
        await transport.stop(0)


async def test_a_connection_made_before_the_start_waits_for_it() -> None:
    rig = Rig()
    async with grpc.aio.insecure_channel(rig.target) as channel:
        call = unary(channel, "Echo", b"early", wait_for_ready=True)
        await rig.transport.start(rig.routes())
        assert await call == b"early"
    await rig.transport.stop(0)


async def test_no_thread_of_ours_is_left_behind(rig: Rig, channel: grpc.aio.Channel) -> None:
    before = threading.active_count()
    await asyncio.gather(*(unary(channel, "Echo") for _ in range(50)))
    assert threading.active_count() <= before
