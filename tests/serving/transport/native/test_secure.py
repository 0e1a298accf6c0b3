"""The native transport over TLS, under each of the event loops: windows, slow readers and the end are as without."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from serving.transport.native import frames
from serving.transport.native.frames import MAX_WINDOW, ErrorCode, frame
from serving.transport.native.limits import Limits
from serving.transport.tls import Tls
from tests.serving.certificates import Certificates
from tests.serving.transport.native.client import HEAD, Client, Frame, message
from tests.serving.transport.native.rig import Rig, serving

ANSWER = bytes(range(256)) * 4_000
LAST_WORD = ANSWER * 8
CALLS = range(1, 31, 2)
"""Fifteen megabytes of answers."""
ROOM = {frames.INITIAL_WINDOW_SIZE: MAX_WINDOW}


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[[Certificates], Coroutine[Any, Any, None]]) -> Any:
    """Each has a TLS of its own; servers run on uvloop's."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(certificates: Certificates, loop: str) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(certificates))

    return run


@asynccontextmanager
async def secure(certificates: Certificates, limits: Limits | None = None) -> AsyncIterator[tuple[Rig, Client]]:
    """A rig, and a client that is connected to it."""
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["h2"])
    tls = Tls(certificates.server.certificate, certificates.server.key)
    async with serving(limits, tls) as rig, rig.client(context) as client:
        rig.answer = ANSWER
        yield rig, client


def is_goaway(found: Frame) -> bool:
    return found.kind == frames.GOAWAY


async def unread(rig: Rig, client: Client) -> None:
    """Ask for more than fits on the way, and read none of it until the server has stopped sending."""
    client.greet(ROOM)
    client.send(frames.window_update(0, MAX_WINDOW - 65_535), *(client.call(n, "/t/Answer") for n in CALLS))
    while not (rig.transport.connections and rig.only().paused):  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)


async def answers(client: Client) -> dict[int, bytes]:
    """The DATA of all the calls, in whatever order it comes."""
    data, ended = {number: bytearray() for number in CALLS}, 0
    while ended < len(CALLS):
        found = await client.read()
        if found.kind == frames.DATA:
            data[found.stream] += found.payload
        ended += found.kind == frames.HEADERS and bool(found.flags & frames.END_STREAM)
    return {number: bytes(received) for number, received in data.items()}


@on_each_loop
async def test_a_call_is_answered(certificates: Certificates) -> None:
    async with secure(certificates) as (_, client):
        client.greet()
        client.send(client.call(1, "/t/Echo", b"hello"), client.head(3, "/t/Stream"))
        assert await client.answer(1) == (0, message(b"hello"))


@on_each_loop
async def test_a_scheme_of_https_is_as_good(certificates: Certificates) -> None:
    async with secure(certificates) as (_, client):
        client.greet()
        block = client._encoder.encode([(":method", "POST"), (":scheme", "https"), (":path", "/t/Echo"), *HEAD[2:]])
        client.send(frame(frames.HEADERS, frames.END_HEADERS, 1, block), frame(0, frames.END_STREAM, 1, message(b"x")))
        assert await client.answer(1) == (0, message(b"x"))


@on_each_loop
async def test_a_slow_reader_gets_all_of_it(certificates: Certificates) -> None:
    async with secure(certificates) as (rig, client):
        await unread(rig, client)
        assert rig.handled == len(CALLS)
        assert await answers(client) == dict.fromkeys(CALLS, message(ANSWER))
        assert not rig.only().paused


@on_each_loop
async def test_a_slow_reader_gets_all_of_it_although_the_server_goes(certificates: Certificates) -> None:
    """Once closed, TLS would give it no longer than that for what is unsent."""
    async with secure(certificates, Limits(shutdown_timeout=1.0, keepalive_timeout=0.01)) as (rig, client):
        await unread(rig, client)
        stop = asyncio.create_task(rig.transport.stop(1000))
        # more than the time that it may take to say goodbye
        await asyncio.wait([stop], timeout=1.2)
        assert not stop.done()
        assert await answers(client) == dict.fromkeys(CALLS, message(ANSWER))
        await client.rest()
        await stop


@on_each_loop
async def test_a_peer_that_reads_nothing_at_all_is_cut(certificates: Certificates) -> None:
    limits = Limits(write_buffer_bytes=1000, stall_timeout=0.05)
    async with secure(certificates, limits) as (rig, client):
        client.greet(ROOM)
        client.send(frames.window_update(0, MAX_WINDOW - 65_535), *(client.call(n, "/t/Answer") for n in CALLS))
        await client.read()
        await rig.gone()
        assert rig.handled == len(CALLS)


@on_each_loop
async def test_a_drain_takes_a_round_trip(certificates: Certificates) -> None:
    async with secure(certificates) as (rig, client):
        client.greet()
        client.send(client.call(1, "/t/Hold"))
        held = await rig.calls.get()
        stop = asyncio.create_task(rig.transport.stop(1000))
        assert int.from_bytes((await client.until(is_goaway)).payload[:4]) == MAX_WINDOW
        ping = await client.until(lambda found: found.kind == frames.PING)
        client.send(client.call(3, "/t/Echo", b"between"), frame(frames.PING, frames.ACK, 0, ping.payload))
        assert await client.answer(3) == (0, message(b"between"))
        assert int.from_bytes((await client.until(is_goaway)).payload[:4]) == 3
        held.reply(b"done")
        assert await client.answer(1) == (0, message(b"done"))
        assert await client.rest() == []
        client.writer.close()
        await stop


@on_each_loop
async def test_a_peer_that_says_no_goodbye_is_not_waited_for(certificates: Certificates) -> None:
    async with secure(certificates, Limits(shutdown_timeout=0.05, keepalive_timeout=0.01)) as (rig, client):
        client.greet()
        await client.ping()
        client.writer.transport.pause_reading()  # and so never sees that it is to go
        await rig.transport.stop(1000)


@on_each_loop
async def test_a_broken_rule_ends_the_connection_with_its_code(certificates: Certificates) -> None:
    async with secure(certificates) as (_, client):
        client.greet()
        client.send(frame(frames.PING, 0, 1, bytes(8)))
        assert (await client.goaway()).code is ErrorCode.PROTOCOL_ERROR


@on_each_loop
async def test_who_does_not_ask_for_h2_is_no_longer_there(certificates: Certificates) -> None:
    reasons: list[str] = []
    context = ssl.create_default_context(cafile=certificates.ca)
    tls = Tls(certificates.server.certificate, certificates.server.key)
    async with serving(None, tls) as rig:
        rig.transport.cut = lambda peer, why: reasons.append(why)  # type: ignore[method-assign]
        async with rig.client(context) as client:
            client.greet()
            assert await client.rest() == []
        await rig.gone()
    assert reasons == ["it did not ask for h2 (ALPN)"]


@on_each_loop
async def test_an_answer_that_is_the_last_word_is_read_whole(certificates: Certificates) -> None:
    """Closed in the same turn in which it is written."""
    async with secure(certificates, Limits(shutdown_timeout=1.0)) as (rig, client):
        client.greet(ROOM)
        client.send(frames.window_update(0, MAX_WINDOW - 65_535), client.call(1, "/t/Hold"))
        held = await rig.calls.get()
        rig.only().drain()
        ping = await client.until(lambda found: found.kind == frames.PING)
        client.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        await client.until(lambda found: is_goaway(found) and int.from_bytes(found.payload[:4]) == 1)
        held.reply(LAST_WORD)
        await asyncio.wait([asyncio.ensure_future(rig.gone())], timeout=1.2)
        assert await client.answer(1) == (0, message(LAST_WORD))
