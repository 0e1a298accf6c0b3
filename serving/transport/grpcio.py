"""The transport over grpc.aio, gRPC's standard implementation."""

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from serving import details
from serving.api.call import ANY, Call, Receiver, Routes, Stream, Streaming, Unary, not_offered
from serving.api.peer import Peer, named
from serving.status import StatusError, fault
from serving.transport.address import listen
from serving.transport.interface import AGE_GRACE_SECONDS, MAX_CONNECTIONS, TransportError
from serving.transport.live import LiveTls
from serving.transport.tls import HANDSHAKE_SECONDS

PUSHBACK = "grpc-retry-pushback-ms"

MAX_CONCURRENT_STREAMS = 1024
"""Calls in flight on one connection; clients hold back the rest by themselves (RFC 9113, section 5.1.2)."""

MAX_UNSENT = 256
"""Messages of one stream that wait to be sent, beyond which no more of it is read."""

MIN_PING_SECONDS = 10
"""Clients may send keepalive pings this often."""

SETTLE_SECONDS = 0.5
QUIET_SECONDS = 0.02
"""At the end, new calls are refused until none has come for the one, or the other has passed."""

_MAX_MILLISECONDS = 2**31 - 1

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioTransport:
    """Serves routes through a `grpc.aio` server."""

    serves_to_the_last = False
    settle_turns = 8  # its poller, a thread, hands over one call at a time, and wants the interpreter for each

    def __init__(
        self,
        max_message_bytes: int,
        tls: LiveTls | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_age: float = math.inf,
        age_grace: float = AGE_GRACE_SECONDS,
        handshake_timeout: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._live = _Live(identifies=tls is not None and tls.verifies)
        self._credentials = None if tls is None else tls.credentials()
        # gRPC's core varies it by a tenth by itself (gRFC A9).
        ages = (("grpc.max_connection_age_ms", max_age), ("grpc.max_connection_age_grace_ms", age_grace))
        self._server = grpc.aio.server(
            options=[
                *((name, _milliseconds(seconds)) for name, seconds in ages if max_age < math.inf),
                ("grpc.server_handshake_timeout_ms", _milliseconds(handshake_timeout)),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
                ("grpc.max_allowed_incoming_connections", max_connections),
                # With it, two servers could share a port without either noticing.
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_SECONDS * 1000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_SECONDS * 1000),
            ]
        )

    def bind(self, address: str) -> int:
        """See `Transport.bind`."""
        # Tried first: grpc keeps the system's reason to itself, and writes to standard error instead.
        listen(address, backlog=1).close()
        try:
            if self._credentials is not None:
                return int(self._server.add_secure_port(address, self._credentials))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise TransportError(f"can't listen on {address}: {error}") from error

    async def start(self, routes: Routes) -> None:
        """See `Transport.start`."""
        self._server.add_generic_rpc_handlers((_Handlers(routes, self._live),))
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """See `Transport.stop`.

        gRPC's core cancels calls that reach it after its shutdown has begun, and clients do not retry what
        was cancelled. So the shutdown begins only when hardly any can: the routes refuse new calls by now,
        and those who retry wait a moment; in that moment their connections are told to go.
        """
        self._live.stopping = True
        for receiver in tuple(self._live.receivers):
            receiver.draining()
        before = -1
        until = time.monotonic() + min(SETTLE_SECONDS, grace)
        while before != self._live.calls and time.monotonic() < until:
            before = self._live.calls
            await asyncio.sleep(QUIET_SECONDS)
        await self._server.stop(grace)


@dataclass
class _Live:
    """What a transport must know of its calls when it stops."""

    calls: int = 0
    """So far."""
    stopping: bool = False
    receivers: set[Receiver] = field(default_factory=set)
    """Of the streams that are open."""
    identifies: bool = False
    """Do clients show certificates?"""


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Finds the handler of a method; messages stay bytes."""

    def __init__(self, routes: Routes, live: _Live) -> None:
        self._handlers = {method: _handler(method, route, live) for method, route in routes.items()}
        self._unknown = routes.get(ANY) or Streaming(not_offered)
        self._live = live

    def service(self, call: Any) -> Any:
        """The method handler, one that refuses where there is none."""
        return self._handlers.get(call.method) or _handler(call.method, self._unknown, self._live)


def _handler(method: str, route: Unary | Streaming, live: _Live) -> Any:
    if isinstance(route, Streaming):
        streaming = route

        async def serve_stream(_: Any, context: Any) -> None:
            live.calls += 1
            stream = _GrpcioStream(method, context)
            if live.identifies:
                stream.peer = _identified(context)
            try:
                receiver = streaming.open(stream)
            except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
                await _abort(context, fault(method, error, stream.ids()), stream.request_id)
            live.receivers.add(receiver)
            if live.stopping:
                receiver.draining()
            try:
                await stream.serve(receiver)
            finally:
                live.receivers.discard(receiver)

        return grpc.stream_stream_rpc_method_handler(serve_stream)

    handle = route.handle

    async def serve_call(message: bytes, context: Any) -> bytes:
        live.calls += 1
        call = _GrpcioCall(method, context)
        if live.identifies:
            call.peer = _identified(context)
        try:
            handle(call, message)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            call.fail(fault(method, error, call.ids()))
        del message  # it may be large, and the wait long
        try:
            return await call.answer()
        except StatusError as error:
            return await _abort(context, error, call.request_id)

    return grpc.unary_unary_rpc_method_handler(serve_call)


async def _abort(context: Any, error: StatusError, request_id: str) -> bytes:
    trailers: tuple[tuple[str, str | bytes], ...] = ((details.KEY, details.encode(error, request_id)),)
    if error.retry_after is not None:
        trailers += ((PUSHBACK, str(math.ceil(error.retry_after * 1e3))),)
    try:
        await context.abort(_CODES[error.code], error.message, trailers)
    except grpc.aio.InternalError:
        # The client is gone, and with it who would be told.
        raise asyncio.CancelledError from None
    raise AssertionError("unreachable: abort raises")


def _milliseconds(seconds: float) -> int:
    return min(math.ceil(seconds * 1e3), _MAX_MILLISECONDS)


def _headers(context: Any) -> tuple[Any, float, str]:
    """Metadata, deadline and peer of a call."""
    left = context.time_remaining()
    deadline = math.inf if left is None else time.monotonic() + left
    return context.invocation_metadata(), deadline, context.peer()


def _identified(context: Any) -> Peer:
    """The peer with the name in its certificate, chosen as `certified` does."""
    found = context.auth_context()
    names = next((found[kind] for kind in ("peer_uri", "peer_dns", "x509_common_name") if found.get(kind)), (b"",))
    return named(context.peer(), names[0].decode("utf-8", "replace"))


class _GrpcioCall(Call):
    """A unary call. A future is made only where the answer is not there at once."""

    __slots__ = ("_future", "_result")

    def __init__(self, method: str, context: Any) -> None:
        super().__init__(method, *_headers(context))
        self._result: bytes | StatusError | None = None
        self._future: asyncio.Future[None] | None = None

    def reply(self, message: bytes) -> None:
        self._finish(message)

    def fail(self, error: StatusError) -> None:
        self._finish(error)

    def _finish(self, result: bytes | StatusError) -> None:
        self._result = result
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def answer(self) -> bytes:
        """The reply; raises the error. A client that goes away cancels this wait."""
        if self._result is None:
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            except asyncio.CancelledError:
                if self.on_cancel is not None:
                    self.on_cancel()
                raise
        if isinstance(self._result, StatusError):
            raise self._result
        assert self._result is not None  # noqa: S101 - the future is set after it
        return self._result


class _GrpcioStream(Stream):
    """A streaming call: one task reads, the handler's own coroutine writes."""

    __slots__ = ("_changed", "_context", "_error", "_finished", "_may_read", "_paused", "_unsent")

    def __init__(self, method: str, context: Any) -> None:
        super().__init__(method, *_headers(context))
        self._context = context
        self._unsent: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._paused = False
        self._finished = False
        self._error: StatusError | None = None

    def send(self, message: bytes) -> None:
        if not self._finished:
            self._unsent.append(message)
            self._changed.set()
            self._update_reading()

    def finish(self, error: StatusError | None = None) -> None:
        if not self._finished:
            self._finished = True
            self._error = error
            self._changed.set()

    def pause_reading(self) -> None:
        self._paused = True
        self._update_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._update_reading()

    def _update_reading(self) -> None:
        # A client that sends without reading answers must not make us hold them all.
        if self._paused or len(self._unsent) >= MAX_UNSENT:
            self._may_read.clear()
        else:
            self._may_read.set()

    async def serve(self, receiver: Receiver) -> None:
        """Carry messages both ways until the stream is finished or the client gone."""
        reader = asyncio.get_running_loop().create_task(self._read(receiver))
        try:
            while self._unsent or not self._finished:
                while self._unsent:
                    message = self._unsent.popleft()
                    self._update_reading()
                    await self._context.write(message)
                if not self._finished:
                    self._changed.clear()
                    await self._changed.wait()
        except (asyncio.CancelledError, grpc.aio.InternalError):
            self._finished = True
            raise asyncio.CancelledError from None
        finally:
            reader.cancel()
            if self.on_cancel is not None:
                self.on_cancel()
        if self._error is not None:
            await _abort(self._context, self._error, self.request_id)

    async def _read(self, receiver: Receiver) -> None:
        try:
            while not self._finished:
                await self._may_read.wait()
                try:
                    message = await self._context.read()
                except grpc.aio.InternalError:
                    return  # the client is gone: the writing side is about to be told
                if message is grpc.aio.EOF:
                    receiver.half_closed()
                    return
                receiver.message(message)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.finish(fault(self.method, error, self.ids()))
