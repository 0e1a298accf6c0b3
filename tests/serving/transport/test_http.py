"""The HTTP transport on real sockets: what clients may ask of it, how slow they may be, and how it ends."""

import asyncio
import functools
import inspect
import logging
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import uvloop

from serving.api.rest.application import application
from serving.api.rest.endpoint import ON_DISCONNECT
from serving.status import Code
from serving.transport.http.limits import Limits
from serving.transport.http.transport import HttpTransport
from serving.transport.interface import TransportError
from serving.transport.tls import Tls
from tests.serving import packages
from tests.serving.api.desk import Desk, open_desk
from tests.serving.certificates import Certificates, live

LIMITS = Limits(settle_seconds=0.1)
SOON = 0.2
"""Seconds, of a limit that a test waits for."""

GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
LARGE = 32 * 1024 * 1024
"""Bytes that no socket takes as long as nobody reads."""
SOME = 48 * 1024
"""Bytes that a small socket doesn't take either, but that are too few for writing to be paused."""


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Servers run on uvloop; what its protocols are told, and when, is asyncio's to say."""

    @functools.wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**fixtures))

    signature = inspect.signature(test)
    own = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop", LOOPS)(run)


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Wire:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            fields = dict(line.split(": ", 1) for line in head[1:])
            assert head[0].startswith("HTTP/1.1 ")
            return Answer(
                int(head[0].split()[1]), fields, await self.reader.readexactly(int(fields.get("content-length", 0)))
            )

    async def ask(self, request: bytes) -> Answer:
        self.send(request)
        return await self.answer()

    async def ended(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        self.writer.close()

    async def closed(self) -> None:
        self.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class App:
    """An application that answers at once, or when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.gone = 0
        self.may_answer = asyncio.Event()
        self.waiting = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope)
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        body = f"{scope['path']} {size}".encode()
        if scope["path"] == "/large":
            body = b" " * LARGE
        elif scope["path"] == "/some":
            body = b" " * SOME
        elif scope["path"] == "/wait":
            gone = asyncio.Event()
            scope["state"][ON_DISCONNECT] = gone.set
            self.waiting.set()
            _, waiting = await asyncio.wait(
                {asyncio.ensure_future(self.may_answer.wait()), asyncio.ensure_future(gone.wait())},
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in waiting:
                each.cancel()
            if gone.is_set():
                self.gone += 1
                return
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Rig:
    """A transport, its application, and clients of it."""

    def __init__(self, transport: HttpTransport, port: int, app: Any) -> None:
        self.transport = transport
        self.port = port
        self.app = app
        self.wires: list[Wire] = []

    async def connect(self, **options: Any) -> Wire:
        self.wires.append(Wire(*await asyncio.open_connection("127.0.0.1", self.port, **options)))
        return self.wires[-1]


@asynccontextmanager
async def serving(limits: Limits = LIMITS, app: Any = None, tls: Tls | None = None) -> AsyncIterator[Rig]:
    transport = HttpTransport(None if tls is None else live(tls), limits)
    port = transport.bind("127.0.0.1:0")
    rig = Rig(transport, port, app or App())
    await transport.start(rig.app)
    try:
        yield rig
    finally:
        await transport.stop(0)
        for wire in rig.wires:
            await wire.closed()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)


@on_each_loop
async def test_requests_are_answered_one_after_the_other_on_a_connection() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        for _ in range(3):
            answer = await wire.ask(b"POST /here HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc")
            assert (answer.status, answer.body) == (200, b"/here 3")
            assert answer.fields["date"].endswith(" GMT")
            assert "server" not in answer.fields
            assert "connection" not in answer.fields
        answer = await wire.ask(b"HEAD / HTTP/1.0\r\n\r\n".replace(b"HEAD", b"GET"))
        assert answer.fields["connection"] == "close"
        assert await wire.ended() == b""


@on_each_loop
async def test_a_body_in_chunks() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        await asyncio.sleep(0.02)
        assert (await wire.ask(b"2\r\nde\r\n0\r\nt: 1\r\n\r\n")).body == b"/ 5"


@on_each_loop
async def test_what_stands_behind_a_body_is_none_of_its_head() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        trailed = CHUNKED + b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n"
        assert (await wire.ask(trailed)).body == b"/ 3"
        assert (await wire.ask(GET)).status == 200
        assert b"authorization" not in dict(rig.app.asked[0]["headers"])


@on_each_loop
async def test_a_busy_port_is_refused_and_a_free_one_named() -> None:
    async with serving() as rig:
        with pytest.raises(TransportError, match=f"can't listen on 127.0.0.1:{rig.port}: address already in use"):
            HttpTransport().bind(f"127.0.0.1:{rig.port}")
    unused = HttpTransport()
    port = unused.bind("127.0.0.1:0")
    await unused.stop(0)
    socket.create_server(("127.0.0.1", port)).close()


@on_each_loop
async def test_a_socket_that_is_shared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport = HttpTransport(limits=LIMITS)
        transport.adopt(listening.dup())
        await transport.start(App())
        wire = Wire(*await asyncio.open_connection(*listening.getsockname()))
        assert (await wire.ask(GET)).status == 200
        await transport.stop(1)
        await wire.closed()


@on_each_loop
async def test_signals_and_logs_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving() as rig:
        assert (await (await rig.connect()).ask(GET)).status == 200
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert [record.name for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert logging.getLogger("uvicorn").handlers == logging.getLogger("uvicorn.error").handlers == []


def error(message: str) -> bytes:
    return b'{"error":"' + message.encode() + b'"}'


HEAD = b"GET / HTTP/1.1\r\nhost: h\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
TOO_LARGE = "the request's head is larger than 16384 bytes"


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n\r\n", 431, TOO_LARGE),
        (HEAD + b"x: " + b"x" * 17_000 + b"\r\n\r\n", 431, TOO_LARGE),
        (HEAD + b"x: " + b"x" * 22_000, 431, TOO_LARGE),
        (HEAD + b"x: y\r\n" * 101, 431, "more than 100 fields"),
        (b"\r\n" * 9_000, 431, TOO_LARGE),
        (CHUNKED + b"0\r\nx: " + b"x" * 22_000, 431, TOO_LARGE),
    ],
    ids=["target", "field", "endless field", "fields", "line breaks", "trailers"],
)
@on_each_loop
async def test_heads_that_are_too_large(sent: bytes, status: int, message: str) -> None:
    async with serving() as rig:
        wire = await rig.connect()
        for start in range(0, len(sent), 5_000):
            wire.send(sent[start : start + 5_000])
            await asyncio.sleep(0.01)
        answer = await wire.answer()
        assert (answer.status, answer.body) == (status, error(message))
        assert answer.fields["connection"] == "close"
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        HEAD + b"content-length: x\r\n\r\n",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        CHUNKED + b"x\r\n",
        b"GET ?x HTTP/1.1\r\nhost: h\r\n\r\n",
    ],
)
@on_each_loop
async def test_what_is_not_http_is_refused(sent: bytes) -> None:
    async with serving() as rig:
        wire = await rig.connect()
        answer = await wire.ask(sent)
        assert answer.status == 400
        assert answer.body.startswith(b'{"error":"this is not HTTP/1.1: ')
        assert await wire.ended() == b""
        assert len(rig.app.asked) == rig.app.gone


@on_each_loop
async def test_a_head_must_come_in_time() -> None:
    async with serving(replace(LIMITS, head_seconds=SOON)) as rig:
        wire = await rig.connect()
        started = time.monotonic()
        wire.send(b"GET / HTTP/1.1\r\n")

        async def dribble() -> None:
            for _ in range(100):
                wire.send(b"x: y\r\n")
                await asyncio.sleep(SOON / 4)

        dribbling = asyncio.ensure_future(dribble())
        answer = await wire.answer()
        dribbling.cancel()
        assert SOON * 0.9 <= time.monotonic() - started < SOON * 4, "what dribbles in does not set it back"
        assert (answer.status, answer.body) == (408, error("the request's head did not come within 0.2 seconds"))
        silent = await rig.connect()
        assert await silent.ended() == b""
        breaks = await rig.connect()
        assert (await breaks.ask(GET)).status == 200
        breaks.send(b"\r\n\r\n")
        assert await breaks.ended() == b""


@on_each_loop
async def test_a_body_must_come_in_time() -> None:
    async with serving(replace(LIMITS, body_seconds=SOON)) as rig:
        wire = await rig.connect()
        wire.send(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nx")
        await asyncio.sleep(SOON / 2)
        wire.send(b"x")
        answer = await wire.answer()
        assert (answer.status, answer.body) == (408, error("the request's body did not come within 0.2 seconds"))
        assert await wire.ended() == b""
        await until(lambda: rig.app.gone == 1)
        assert (await (await rig.connect()).ask(GET)).status == 200


@on_each_loop
async def test_each_request_has_its_own_time() -> None:
    async with serving(replace(LIMITS, head_seconds=SOON)) as rig:
        wire = await rig.connect()
        wire.send(GET[:10])
        for _ in range(8):
            await asyncio.sleep(SOON / 4)
            assert (await wire.ask(GET[10:] + GET[:10])).status == 200


@on_each_loop
async def test_answers_may_take_longer_than_requests() -> None:
    async with serving(replace(LIMITS, head_seconds=0.05, body_seconds=0.05, idle_seconds=0.05)) as rig:
        wire = await rig.connect()
        wire.send(b"POST /wait HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nx")
        await asyncio.sleep(0.02)
        wire.send(b"x")
        await asyncio.sleep(SOON)
        rig.app.may_answer.set()
        assert (await wire.answer()).body == b"/wait 2"


@on_each_loop
async def test_an_idle_connection_is_closed() -> None:
    async with serving(replace(LIMITS, idle_seconds=SOON)) as rig:
        wire = await rig.connect()
        assert (await wire.ask(GET)).status == 200
        started = time.monotonic()
        assert await wire.ended() == b""
        assert time.monotonic() - started >= SOON * 0.9


@on_each_loop
async def test_there_are_only_so_many_connections() -> None:
    async with serving(replace(LIMITS, max_connections=2)) as rig:
        wires = [await rig.connect() for _ in range(2)]
        for wire in wires:
            assert (await wire.ask(GET)).status == 200
        third = await rig.connect()
        answer = await third.answer()
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert answer.body == error("too many connections; try again later, or another server")
        wires[0].close()
        await until(lambda: len(rig.transport._connections) == 1)
        assert (await (await rig.connect()).ask(GET)).status == 200


@on_each_loop
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(GET.replace(b"/ ", b"/wait ") + b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(5)))
        await rig.app.waiting.wait()
        assert len(rig.app.asked) == 1
        rig.app.may_answer.set()
        assert [(await wire.answer()).body for _ in range(6)] == [b"/wait 0", *(b"/%d 0" % n for n in range(5))]


@on_each_loop
async def test_only_so_many_requests_are_pipelined() -> None:
    async with serving(replace(LIMITS, max_pipelined=3)) as rig:
        wire = await rig.connect()
        wire.send(b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(50)))
        assert [(await wire.answer()).body for _ in range(4)] == [b"/%d 0" % n for n in range(4)]
        assert await wire.ended() == b""
        assert len(rig.app.asked) == 4


@on_each_loop
async def test_a_fault_behind_a_request_does_not_take_its_answer() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(GET.replace(b"/ ", b"/wait "))
        await rig.app.waiting.wait()
        wire.send(b"\0\0\0\0")
        await asyncio.sleep(0.02)
        rig.app.may_answer.set()
        answer = await wire.answer()
        assert (answer.body, answer.fields["connection"]) == (b"/wait 0", "close")
        assert await wire.ended() == b""


@pytest.mark.parametrize("asked", [b"/large HTTP/1.1", b"/some HTTP/1.1", b"/some HTTP/1.0"])
@on_each_loop
async def test_a_client_that_does_not_read_is_cut(caplog: pytest.LogCaptureFixture, asked: bytes) -> None:
    caplog.set_level(logging.INFO)
    async with serving(replace(LIMITS, stall_seconds=SOON, idle_seconds=SOON)) as rig:
        assert rig.transport._socket is not None
        rig.transport._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", rig.port))
            await loop.sock_sendall(client, b"GET %s\r\nhost: h\r\n\r\n" % asked)
            await until(lambda: rig.transport._connections)
            await until(lambda: not rig.transport._connections)
        assert [record.reason for record in caplog.records if record.message == "connection cut"] == [  # type: ignore[attr-defined]
            "it does not read its answers"
        ]


@on_each_loop
async def test_a_client_that_goes_is_told_of() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(GET.replace(b"/ ", b"/wait ") + GET)
        await rig.app.waiting.wait()
        wire.close()
        await until(lambda: rig.app.gone == 1)
        assert len(rig.app.asked) == 1, "what waited behind it is not begun"


@pytest.mark.parametrize("offer", [b"upgrade: websocket\r\n", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"])
@on_each_loop
async def test_offers_to_upgrade_are_passed_over(offer: bytes) -> None:
    """Some clients make them with every request, to see whether there is HTTP/2."""
    async with serving() as rig:
        wire = await rig.connect()
        head = b"POST / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\n" + offer + b"content-length: 21\r\n\r\n"
        for _ in range(2):
            answer = await wire.ask(head + b"abc\r\nupgrade: abc\r\n12")
            assert (answer.status, answer.body) == (200, b"/ 21")


@on_each_loop
async def test_who_waits_to_be_asked_for_the_body_is_asked() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await wire.ask(b"abc")).body == b"/ 3"


# How it ends.


@on_each_loop
async def test_what_was_asked_is_answered_at_the_end() -> None:
    async with serving() as rig:
        busy, idle = await rig.connect(), await rig.connect()
        assert (await idle.ask(GET)).status == 200
        busy.send(GET.replace(b"/ ", b"/wait "))
        await rig.app.waiting.wait()
        stopping = asyncio.ensure_future(rig.transport.stop(10))
        assert await idle.ended() == b""
        assert not stopping.done()
        with pytest.raises(ConnectionRefusedError):
            await rig.connect()
        rig.app.may_answer.set()
        answer = await busy.answer()
        assert (answer.body, answer.fields["connection"]) == (b"/wait 0", "close")
        assert await busy.ended() == b""
        await stopping


@on_each_loop
async def test_a_request_that_was_on_its_way_is_answered_at_the_end() -> None:
    async with serving(replace(LIMITS, settle_seconds=5)) as rig:
        idle, slow = await rig.connect(), await rig.connect()
        assert (await idle.ask(GET)).status == 200
        slow.send(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nx")
        await until(lambda: len(rig.app.asked) == 2)
        stopping = asyncio.ensure_future(rig.transport.stop(10))
        await asyncio.sleep(0.05)
        answer = await idle.ask(GET)
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        slow.send(b"x")
        answer = await slow.answer()
        assert (answer.body, answer.fields["connection"]) == (b"/ 2", "close")
        async with asyncio.timeout(2):  # nobody is left to be waited for
            await stopping


@on_each_loop
async def test_who_has_connected_is_served_at_the_end() -> None:
    async with serving() as rig:
        with socket.create_connection(("127.0.0.1", rig.port)) as client:
            client.sendall(GET)
            client.setblocking(False)
            await rig.transport.stop(5)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


@on_each_loop
async def test_what_is_not_answered_in_time_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(GET.replace(b"/ ", b"/wait "))
        await rig.app.waiting.wait()
        started = time.monotonic()
        await rig.transport.stop(SOON)
        assert SOON * 0.9 <= time.monotonic() - started < 2
        assert await wire.ended() == b""
        await until(lambda: rig.app.gone == 1)
        assert "connections were still open at the end" in caplog.text


@on_each_loop
async def test_asked_a_second_time_it_ends_at_once() -> None:
    async with serving() as rig:
        wire = await rig.connect()
        wire.send(GET.replace(b"/ ", b"/wait "))
        await rig.app.waiting.wait()
        stopping = asyncio.ensure_future(rig.transport.stop(60))
        await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            await rig.transport.stop(0)
            await stopping
        assert await wire.ended() == b""


# Over TLS.


@pytest.fixture
def tls(certificates: Certificates) -> Tls:
    return Tls(certificates.server.certificate, certificates.server.key)


def context(certificates: Certificates, *protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=certificates.ca)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


@on_each_loop
async def test_over_tls(certificates: Certificates, tls: Tls) -> None:
    async with serving(tls=tls) as rig:
        wire = await rig.connect(ssl=context(certificates, "h2", "http/1.1"))
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert (await wire.ask(GET)).status == 200
        assert rig.app.asked[0]["scheme"] == "https"
        stopping = asyncio.ensure_future(rig.transport.stop(5))
        assert await wire.ended() == b""
        wire.close()
        await stopping


@on_each_loop
async def test_a_client_that_is_not_the_servers_to_trust(certificates: Certificates, tls: Tls) -> None:
    async with serving(tls=replace(tls, client_ca=certificates.client_ca)) as rig:
        trusted = context(certificates)
        trusted.load_cert_chain(certificates.client.certificate, certificates.client.key)
        assert (await (await rig.connect(ssl=trusted)).ask(GET)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await (await rig.connect(ssl=context(certificates))).ask(GET)
        assert len(rig.app.asked) == 1


@on_each_loop
async def test_a_handshake_must_come_in_time(tls: Tls) -> None:
    async with serving(replace(LIMITS, handshake_seconds=SOON), tls=tls) as rig:
        assert await (await rig.connect()).ended() == b""


# With the API behind it.


@asynccontextmanager
async def api(max_body_bytes: int = 100_000, max_delay: float = 0.0) -> AsyncIterator[tuple[Desk, Rig]]:
    desk = await open_desk(packages.first_versions(), replace(packages.SMALL, max_delay=max_delay))
    made = application(desk.backend, None, lambda: True, max_body_bytes=max_body_bytes)  # type: ignore[arg-type]
    async with serving(app=made) as rig:
        yield desk, rig
    await desk.models.close()
    assert desk.in_flight() == 0


def post(body: bytes, length: int | None = None, fields: bytes = b"") -> bytes:
    size = len(body) if length is None else length
    return b"POST /v1/house-price HTTP/1.1\r\nhost: h\r\n%scontent-length: %d\r\n\r\n" % (fields, size) + body


@on_each_loop
async def test_a_client_that_goes_cancels_its_request() -> None:
    async with api(max_delay=30) as (desk, rig):
        wire = await rig.connect()
        wire.send(post(b'{"houses": [{}]}'))
        await until(lambda: desk.models.queued_rows("house_price") == 1)
        wire.close()
        await until(lambda: desk.rejected() == {"cancelled": 1})
        assert desk.models.queued_rows("house_price") == desk.batches() == 0
        assert desk.requests(Code.CANCELLED, method="POST /v1/house-price") == 1


@on_each_loop
async def test_a_body_that_is_too_large_is_refused_and_the_answer_arrives() -> None:
    async with api() as (_, rig):
        for request in (
            post(b" " * 3_000_000),
            CHUNKED.replace(b"POST /", b"POST /v1/house-price") + b"2dc6c0\r\n" + b" " * 3_000_000 + b"\r\n0\r\n\r\n",
        ):
            wire = await rig.connect()
            wire.send(request)
            await wire.writer.drain()
            answer = await wire.answer()
            assert (answer.status, answer.fields["connection"]) == (413, "close")
            assert await wire.ended() == b""


@on_each_loop
async def test_who_asks_first_is_not_asked_for_a_body_that_is_too_large() -> None:
    async with api() as (_, rig):
        wire = await rig.connect()
        answer = await wire.ask(post(b"", 3_000_000, b"expect: 100-continue\r\n"))
        assert answer.status == 413
        wire.close()


@on_each_loop
async def test_the_largest_body_comes_through() -> None:
    async with api(4 * 1024 * 1024) as (_, rig):
        wire = await rig.connect()
        body = b'{"houses": [{"rooms": 6}]}'
        answer = await wire.ask(post(body + b" " * (4 * 1024 * 1024 - len(body))))
        assert answer.status == 200
        assert (await wire.ask(post(body))).body == answer.body
