"""Clients that break rules: each meets the right code, and nobody else notices."""

import gzip
from collections.abc import Callable

import pytest

from serving.transport.native import frames
from serving.transport.native.connection import Connection
from serving.transport.native.frames import MAX_WINDOW, PREFACE, ErrorCode, frame
from serving.transport.native.limits import Limits
from tests.serving.transport.native.client import END, WHOLE, Client, message
from tests.serving.transport.native.rig import beside, serving

pytestmark = pytest.mark.asyncio

FEW = Limits(patience=200, patience_per_second=0)
"""Floods that are short enough for a test."""
PROTOCOL, SIZE, CALM = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.ENHANCE_YOUR_CALM
FLOW, CLOSED, PACKING = ErrorCode.FLOW_CONTROL_ERROR, ErrorCode.STREAM_CLOSED, ErrorCode.COMPRESSION_ERROR

Attack = Callable[[Client], bytes]


def rapid_reset(client: Client) -> bytes:
    calls = (
        client.head(n, "/t/Hold") + frame(frames.DATA, END, n, message()) + frames.reset(n, ErrorCode.CANCEL)
        for n in range(1, 801, 2)
    )
    return b"".join(calls)


CONNECTION_ERRORS: dict[str, tuple[Attack, ErrorCode]] = {
    "CONTINUATION flood": (
        lambda c: frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, 0, 1, bytes(1000)) * 50,
        CALM,
    ),
    "empty CONTINUATIONs": (lambda c: frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, 0, 1) * 50, CALM),
    "HPACK bomb": (
        lambda c: frame(frames.HEADERS, WHOLE, 1, b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968 + b"\xbe" * 9000),
        CALM,
    ),
    "huge header list": (
        lambda c: b"".join(
            (
                frame(frames.HEADERS, 0, 1, (b"\x00\x01a\x7f\x81\x1e" + b"x" * 3968) * 4),
                frame(frames.CONTINUATION, WHOLE, 1, b"\x00\x01a\x7f\x81\x1e" + b"x" * 3968),
            )
        ),
        CALM,
    ),
    "broken HPACK": (lambda c: frame(frames.HEADERS, WHOLE, 1, b"\x80"), PACKING),
    "SETTINGS flood": (lambda c: frames.settings({}) * 300, CALM),
    "SETTINGS of very many": (lambda c: frame(frames.SETTINGS, 0, 0, bytes((0, 4, 0, 0, 0, 1)) * 2000), CALM),
    "PING flood": (lambda c: frame(frames.PING, 0, 0, bytes(8)) * 300, CALM),
    "PING ACK of the wrong size": (lambda c: frame(frames.PING, frames.ACK, 0, bytes(7)), SIZE),
    "PRIORITY flood": (lambda c: frame(frames.PRIORITY, 0, 1, bytes(5)) * 300, CALM),
    "flood of an unknown type": (lambda c: frame(99, 0, 0, bytes(5)) * 300, CALM),
    "empty DATA flood": (lambda c: c.head(1, "/t/Echo") + frame(frames.DATA, 0, 1) * 300, CALM),
    "DATA flood of a stream long gone": (
        lambda c: c.call(1, "/t/Echo") + frame(frames.DATA, 0, 1) * 300,
        CALM,
    ),
    "WINDOW_UPDATE flood": (lambda c: frames.window_update(0, 1) * 300, CALM),
    "WINDOW_UPDATE overflow": (lambda c: frames.window_update(0, MAX_WINDOW), FLOW),
    "WINDOW_UPDATE of zero": (lambda c: frames.window_update(0, 0), PROTOCOL),
    "WINDOW_UPDATE of an idle stream": (lambda c: frames.window_update(1, 1), PROTOCOL),
    "WINDOW_UPDATE of an even stream": (lambda c: c.call(3, "/t/Echo") + frames.window_update(2, 1), PROTOCOL),
    "WINDOW_UPDATE of the wrong size": (lambda c: frame(frames.WINDOW_UPDATE, 0, 0, bytes(5)), SIZE),
    "rapid reset": (rapid_reset, CALM),
    "rapid reset without DATA": (
        lambda c: b"".join(c.head(n, "/t/Hold") + frames.reset(n, ErrorCode.CANCEL) for n in range(1, 801, 2)),
        CALM,
    ),
    "malformed heads": (lambda c: b"".join(c.head(n, "/t/Echo", ("Bad", "x")) for n in range(1, 801, 2)), CALM),
    "RST_STREAM of an idle stream": (lambda c: frames.reset(1, ErrorCode.CANCEL), PROTOCOL),
    "RST_STREAM of an even stream": (lambda c: c.call(3, "/t/Echo") + frames.reset(2, ErrorCode.CANCEL), PROTOCOL),
    "RST_STREAM of the connection": (lambda c: frames.reset(0, ErrorCode.CANCEL), PROTOCOL),
    "RST_STREAM of the wrong size": (lambda c: frame(frames.RST_STREAM, 0, 1, bytes(3)), SIZE),
    "DATA on an idle stream": (lambda c: frame(frames.DATA, 0, 1, b"x"), PROTOCOL),
    "DATA on stream 0": (lambda c: frame(frames.DATA, 0, 0, b"x"), PROTOCOL),
    "DATA on an even stream": (lambda c: c.call(3, "/t/Echo") + frame(frames.DATA, 0, 2, b"x"), PROTOCOL),
    "HEADERS on stream 0": (lambda c: c.head(0, "/t/Echo"), PROTOCOL),
    "HEADERS on an even stream": (lambda c: c.head(2, "/t/Echo"), PROTOCOL),
    "HEADERS too short for a priority": (lambda c: frame(frames.HEADERS, WHOLE | 0x20, 1, b"abc"), SIZE),
    "PRIORITY on stream 0": (lambda c: frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "PRIORITY of the wrong size": (lambda c: frame(frames.PRIORITY, 0, 1, bytes(4)), SIZE),
    "PING on a stream": (lambda c: frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    "GOAWAY on a stream": (lambda c: frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "GOAWAY too short": (lambda c: frame(frames.GOAWAY, 0, 0, bytes(7)), SIZE),
    "SETTINGS on a stream": (lambda c: frame(frames.SETTINGS, 0, 1), PROTOCOL),
    "SETTINGS of the wrong size": (lambda c: frame(frames.SETTINGS, 0, 0, bytes(5)), SIZE),
    "SETTINGS ACK with a payload": (lambda c: frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), SIZE),
    "SETTINGS: window too large": (lambda c: frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), FLOW),
    "SETTINGS: window overflow": (
        lambda c: (
            c.head(1, "/t/Echo")
            + frames.window_update(1, MAX_WINDOW - 65_535)
            + frames.settings({frames.INITIAL_WINDOW_SIZE: 65_536})
        ),
        FLOW,
    ),
    "SETTINGS: frame size": (lambda c: frames.settings({frames.MAX_FRAME_SIZE: 1}), PROTOCOL),
    "SETTINGS: push": (lambda c: frames.settings({frames.ENABLE_PUSH: 2}), PROTOCOL),
    "an oversize frame": (lambda c: frame(frames.DATA, 0, 1, bytes(16_385)), SIZE),
    "CONTINUATION of nothing": (lambda c: frame(frames.CONTINUATION, WHOLE, 1), PROTOCOL),
    "CONTINUATION on stream 0": (lambda c: frame(frames.CONTINUATION, WHOLE, 0), PROTOCOL),
    "interleaved header blocks": (lambda c: frame(frames.HEADERS, 0, 1) + c.head(3, "/t/Echo"), PROTOCOL),
    "CONTINUATION of another": (
        lambda c: frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, WHOLE, 3),
        PROTOCOL,
    ),
    "a PING within a header block": (lambda c: frame(frames.HEADERS, 0, 1) + frame(6, 0, 0, bytes(8)), PROTOCOL),
    "PUSH_PROMISE": (lambda c: frame(frames.PUSH_PROMISE, WHOLE, 1, bytes(4)), PROTOCOL),
    "bad padding of DATA": (lambda c: c.head(1, "/t/Echo") + frame(frames.DATA, 8, 1, b"\x05abcd"), PROTOCOL),
    "bad padding of HEADERS": (lambda c: frame(frames.HEADERS, WHOLE | 8, 1, b"\x05abcd"), PROTOCOL),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
async def test_a_broken_rule_ends_its_connection_alone(name: str) -> None:
    attack, code = CONNECTION_ERRORS[name]
    async with serving(FEW) as rig, beside(rig), rig.client() as client:
        client.greet()
        client.send(attack(client))
        assert (await client.goaway()).code is code


def measured(client: Client, length: int, body: bytes, end: int = END, path: str = "/t/Hold") -> bytes:
    """A call that announces its length."""
    return client.head(1, path, ("content-length", str(length))) + frame(frames.DATA, end, 1, body)


STREAM_ERRORS: dict[str, tuple[Attack, ErrorCode]] = {
    "DATA after the end": (lambda c: c.call(1, "/t/Hold") + frame(frames.DATA, 0, 1, b"x"), CLOSED),
    "HEADERS after the end": (lambda c: c.call(1, "/t/Hold") + c.head(1, "/t/Hold", flags=END), CLOSED),
    "trailers that end nothing": (lambda c: c.head(1, "/t/Hold") + c.head(1, "/t/Hold"), PROTOCOL),
    "WINDOW_UPDATE of zero": (lambda c: c.head(1, "/t/Hold") + frames.window_update(1, 0), PROTOCOL),
    "WINDOW_UPDATE overflow": (lambda c: c.head(1, "/t/Hold") + frames.window_update(1, MAX_WINDOW), FLOW),
    "a malformed head": (lambda c: c.head(1, "/t/Hold", ("Upper", "x")), PROTOCOL),
    "DATA beyond its content-length": (lambda c: measured(c, 6, message(b"ab"), 0), PROTOCOL),
    "DATA short of its content-length": (lambda c: measured(c, 8, message(b"ab")), PROTOCOL),
    "DATA short of its content-length, in parts": (
        lambda c: measured(c, 8, message(b"ab"), 0) + frame(frames.DATA, END, 1),
        PROTOCOL,
    ),
    "trailers short of the content-length": (
        lambda c: measured(c, 8, message(b"ab"), 0) + c.head(1, "/", flags=END),
        PROTOCOL,
    ),
    "nothing at all where a content-length is": (
        lambda c: c.head(1, "/t/Hold", ("content-length", "5"), flags=END),
        PROTOCOL,
    ),
    "a stream beyond its content-length": (
        lambda c: measured(c, 14, message(b"ab"), 0, "/t/Stream") + frame(frames.DATA, 0, 1, message(b"abc")),
        PROTOCOL,
    ),
    "a stream short of its content-length": (lambda c: measured(c, 8, message(b"ab"), path="/t/Stream"), PROTOCOL),
    "two content-lengths": (
        lambda c: c.head(1, "/t/Hold", ("content-length", "7"), ("content-length", "7")),
        PROTOCOL,
    ),
    "a content-length that is none": (lambda c: c.head(1, "/t/Hold", ("content-length", "0x7")), PROTOCOL),
    "a content-length of very many digits": (lambda c: c.head(1, "/t/Hold", ("content-length", "7" * 5000)), PROTOCOL),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
async def test_a_broken_rule_of_a_stream_ends_it_alone(name: str) -> None:
    attack, code = STREAM_ERRORS[name]
    async with serving(FEW) as rig, beside(rig), rig.client() as client:
        client.greet()
        client.send(attack(client))
        assert await client.reset(1) is code
        client.send(client.call(3, "/t/Echo", b"next"))
        assert await client.answer(3) == (0, message(b"next"))


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"garbage",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        PREFACE + frame(frames.PING, 0, 0, bytes(8)),
        PREFACE + frame(frames.SETTINGS, frames.ACK, 0),
    ],
)
async def test_what_is_no_preface_is_refused(greeting: bytes) -> None:
    async with serving() as rig, beside(rig), rig.client() as client:
        client.send(greeting)
        assert (await client.goaway()).code is PROTOCOL


@pytest.mark.parametrize("greeting", [b"", b"PRI * HTTP/2.0", PREFACE, PREFACE + frames.settings({})[:8]])
async def test_a_preface_that_never_ends_is_cut(greeting: bytes) -> None:
    async with serving(Limits(preface_timeout=0.05)) as rig, rig.client() as client:
        client.send(greeting)
        assert frames.GOAWAY not in {found.kind for found in await client.rest()}


async def test_a_silent_peer_is_pinged_and_cut() -> None:
    async with serving(Limits(keepalive_interval=0.05, keepalive_timeout=0.05)) as rig, rig.client() as client:
        client.greet()
        kinds = [found.kind for found in await client.rest()]
        assert kinds.count(frames.PING) == 1


async def test_pings_without_calls_are_counted_until_a_call_is_answered() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        for number in range(1, 61, 2):
            client.send(client.call(number, "/t/Echo"))
            await client.answer(number)
            await client.ping()
        client.send(frame(frames.PING, 0, 0, bytes(8)) * 12)
        goaway = await client.goaway()
        assert goaway.code is CALM
        assert goaway.payload[8:] == b"too_many_pings"


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with serving(Limits(max_streams=3)) as rig, rig.client() as client:
        client.greet()
        client.send(*(client.call(n, "/t/Hold") for n in (1, 3, 5, 7)))
        assert await client.reset(7) is ErrorCode.REFUSED_STREAM
        (await rig.calls.get()).reply(b"")
        await client.answer(1)
        client.send(client.call(9, "/t/Echo"))
        assert await client.answer(9) == (0, message())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 12),
        (b"\0", 12),
        (message(b"a") + message(b"b"), 12),
        (b"\0\0\0\0\x05abc", 12),
        (b"\0\0\0\0\x01abc", 12),
        (b"\0\xff\xff\xff\xff", 8),
        (message(b"x", 1), 13),
    ],
)
async def test_a_unary_call_takes_one_message(body: bytes, status: int) -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.head(1, "/t/Echo"), frame(frames.DATA, END, 1, body))
        assert await client.answer(1) == (status, b"")
        assert not rig.handled


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(bytes(5_000_000)), 8),
        ("gzip", b"no gzip", 13),
        ("br", b"x", 12),
        ("gzip", gzip.compress(b"fine", mtime=0), 0),
    ],
)
async def test_compression(encoding: str, body: bytes, status: int) -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(
            client.head(1, "/t/Echo", ("grpc-encoding", encoding)), frame(frames.DATA, END, 1, message(body, 1))
        )
        assert (await client.answer(1))[0] == status


@pytest.mark.parametrize("path", ["/t/Echo", "/t/Stream"])
async def test_a_content_length_that_is_right_changes_nothing(path: str) -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        body, name = message(b"x" * 20_000), "content-length"
        parts = [frame(frames.DATA, 0, 1, body[n : n + 5000]) for n in range(0, len(body), 5000)]
        client.send(client.head(1, path, (name, str(len(body)))), *parts, frame(frames.DATA, END, 1))
        assert await client.answer(1) == (0, body)
        client.send(client.head(3, path, (name, "5")), frame(frames.DATA, END | 8, 3, b"\x03" + message() + bytes(3)))
        assert await client.answer(3) == (0, message()), "padding is not content"


async def test_a_call_that_is_not_what_it_announced_is_never_begun() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(measured(client, 8, message(b"ab")))
        await client.reset(1)
        assert rig.handled == 0


async def test_data_beyond_the_connections_window_ends_the_connection() -> None:
    """We give back what we take as it comes, so that no client could exceed it that is not far ahead of us."""
    async with serving() as rig, rig.client() as client:
        client.greet()
        await client.ping()
        connection = rig.only()
        assert isinstance(connection, Connection)
        connection._receive_window = 10_000
        client.send(client.head(1, "/t/Hold"), frame(frames.DATA, 0, 1, bytes(10_000)))
        await client.until(lambda found: found.kind == frames.WINDOW_UPDATE and found.stream == 0)
        await client.ping()
        connection._receive_window = 10_000
        client.send(frame(frames.DATA, 0, 1, bytes(10_001)))
        assert (await client.goaway()).code is FLOW


async def test_data_beyond_a_streams_window_ends_the_stream_and_others_go_on() -> None:
    """What waits for room that another message has may hold no more than its first window."""
    limits = Limits(max_message_bytes=250_000, message_budget=0)
    async with serving(limits) as rig, beside(rig), rig.client() as client:
        client.greet()
        body = message(bytes(250_000))
        first = [frame(frames.DATA, 0, 1, body[n : n + 16_000]) for n in range(0, len(body), 16_000)]
        client.send(client.head(1, "/t/Echo"), first[0])
        client.send(
            client.head(3, "/t/Echo"),
            *(frame(frames.DATA, 0, 3, body[n : n + 13_107]) for n in range(0, 65_535, 13_107)),
        )
        await client.ping()
        assert frames.RST_STREAM not in {found.kind for found in client.seen}, "all of its window is its own"
        client.send(frame(frames.DATA, 0, 3, bytes(1)))
        assert await client.reset(3) is FLOW
        client.send(*first[1:], frame(frames.DATA, END, 1), frames.window_update(0, MAX_WINDOW - 65_535))
        client.send(frames.window_update(1, MAX_WINDOW - 65_535))
        assert await client.answer(1) == (0, body)


async def test_trailers_may_end_a_call() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.head(1, "/t/Echo"), frame(frames.DATA, 0, 1, message(b"x")), client.head(1, "/", flags=END))
        assert await client.answer(1) == (0, message(b"x"))


async def test_late_data_of_a_stream_that_we_ended_is_no_flood() -> None:
    async with serving(FEW) as rig, rig.client() as client:
        client.greet()
        client.send(client.head(1, "/t/Nothing"), *[frame(frames.DATA, 0, 1, message())] * 5000)
        assert (await client.answer(1))[0] == 12
        client.send(client.call(3, "/t/Echo"))
        assert await client.answer(3) == (0, message())


async def test_a_preface_may_come_byte_by_byte() -> None:
    async with serving() as rig, rig.client() as client:
        for byte in PREFACE + frames.settings({}) + client.call(1, "/t/Echo", b"x"):
            client.send(bytes((byte,)))
            await client.writer.drain()
        assert await client.answer(1) == (0, message(b"x"))


async def test_a_peer_that_answers_pings_stays() -> None:
    async with serving(Limits(keepalive_interval=0.02, keepalive_timeout=5)) as rig, rig.client() as client:
        client.greet()
        found = await client.until(lambda found: found.kind == frames.PING)
        client.send(frame(frames.PING, frames.ACK, 0, found.payload))
        client.send(client.call(1, "/t/Echo", b"x"))
        assert await client.answer(1) == (0, message(b"x"))


async def test_a_stream_that_ends_within_a_message_fails() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.head(1, "/t/Stream"), frame(frames.DATA, END, 1, message(b"a") + b"\0\0\0\0\x05ab"))
        assert await client.answer(1) == (13, message(b"a"))
        assert rig.streams[0].over.is_set()
