"""Bounds and ends: windows, memory, honest clients in great numbers, draining."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from serving.transport.native import frames
from serving.transport.native.frames import MAX_WINDOW, ErrorCode, frame
from serving.transport.native.limits import Limits
from serving.transport.native.streams import MAX_UNSENT
from tests.serving.transport.native.client import END, Client, Frame, message
from tests.serving.transport.native.rig import PATIENCE, Rig, serving

pytestmark = pytest.mark.asyncio


def is_goaway(found: Frame) -> bool:
    return found.kind == frames.GOAWAY


def last(found: Frame) -> int:
    return int.from_bytes(found.payload[:4])


# Windows.


@pytest.mark.parametrize("initial", [0, 1])
async def test_an_answer_goes_out_byte_by_byte(initial: int) -> None:
    async with serving() as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: initial})
        client.send(client.call(1, "/t/Echo", b"hello"))
        await client.ping()
        client.send(*[frames.window_update(1, 1)] * (10 - initial))
        assert (await client.answer(1))[0] == 0
        assert b"".join(found.payload for found in client.seen if found.kind == frames.DATA) == message(b"hello")
        sizes = [len(found.payload) for found in client.seen if found.kind == frames.DATA]
        assert sizes == [1] * 10


async def test_a_window_dribbled_open_earns_no_patience() -> None:
    async with serving(Limits(patience=300, patience_per_second=0)) as rig, rig.client() as client:
        rig.answer = bytes(10_000)
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.call(1, "/t/Answer"), *[frames.window_update(1, 1)] * 1000)
        assert (await client.goaway()).code is ErrorCode.ENHANCE_YOUR_CALM


async def test_settings_change_windows_and_are_acknowledged_before_what_they_allow() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.call(1, "/t/Echo", b"x"))
        await client.ping()
        client.seen.clear()
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))
        await client.answer(1)
        first, second = client.seen[:2]
        assert (first.kind, first.flags) == (frames.SETTINGS, frames.ACK)
        assert second.kind == frames.DATA


async def test_a_window_may_become_negative() -> None:
    async with serving() as rig, rig.client() as client:
        rig.answer = bytes(200)
        client.greet({frames.INITIAL_WINDOW_SIZE: 100})
        client.send(client.call(1, "/t/Answer"))
        await client.ping()
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), frames.window_update(1, 100))
        await client.ping()
        assert sum(len(found.payload) for found in client.seen if found.kind == frames.DATA) == 100
        client.send(frames.window_update(1, 105))
        assert await client.answer(1) == (0, message(bytes(200))[100:])


async def test_the_connections_own_window_holds_all_streams_together() -> None:
    async with serving() as rig, rig.client() as client:
        rig.answer = bytes(40_000)
        client.greet()
        client.send(client.call(1, "/t/Answer"), client.call(3, "/t/Answer"))
        await client.ping()
        assert sum(len(found.payload) for found in client.seen if found.kind == frames.DATA) == 65_535
        client.send(frames.window_update(0, 100_000))
        assert (await client.answer(3))[0] == 0


async def test_unread_answers_are_bounded() -> None:
    limits = Limits(max_unsent_bytes=50_000)
    async with serving(limits) as rig, rig.client() as client:
        rig.answer = bytes(10_000)
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(*(client.call(n, "/t/Answer") for n in range(1, 201, 2)))
        await client.ping()
        assert rig.handled == 10, "no more were begun than fill twice the bound"
        client.send(frames.window_update(0, MAX_WINDOW - 65_535))
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 65_535}))
        ended = 0
        while ended < 100:
            found = await client.read()
            ended += found.kind == frames.HEADERS and bool(found.flags & END)
        assert rig.handled == 100


async def test_a_call_that_waits_for_others_may_be_cancelled() -> None:
    async with serving(Limits(max_unsent_bytes=0)) as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.call(1, "/t/Echo", b"x"), client.call(3, "/t/Echo"), frames.reset(3, ErrorCode.CANCEL))
        client.send(client.call(5, "/t/Hold"))
        await client.ping()
        assert rig.handled == 1
        client.send(frames.window_update(1, 100))
        await client.answer(1)
        (await rig.calls.get()).reply(b"")
        assert rig.handled == 2
        client.send(frames.window_update(5, 5))
        assert await client.answer(5) == (0, message())


async def test_a_stream_that_is_not_read_is_bounded_and_blocks_no_other_call() -> None:
    async with serving(Limits(max_unsent_bytes=100_000)) as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.head(1, "/t/Grow"), frame(frames.DATA, END, 1, message() * 1000))
        await client.ping()
        assert rig.streams[0].messages <= 11
        client.send(client.call(3, "/t/Echo"), frames.window_update(3, 5))
        assert await client.answer(3) == (0, message())
        client.send(frames.window_update(0, MAX_WINDOW - 65_535), frames.window_update(1, MAX_WINDOW))
        status, data = await client.answer(1)
        assert (status, len(data)) == (0, 1000 * 10_005)
        assert rig.streams[0].messages == 1000


async def test_small_messages_that_are_not_read_are_bounded_in_number() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.head(1, "/t/Stream"), frame(frames.DATA, 0, 1, message() * 1000))
        await client.ping()
        assert rig.streams[0].messages == MAX_UNSENT
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await rig.streams[0].over.wait()


async def test_a_stream_cancelled_after_its_end_but_before_all_was_read_lets_go() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet({frames.INITIAL_WINDOW_SIZE: 0})
        client.send(client.head(1, "/t/Stream"), frame(frames.DATA, END, 1, message(b"x")))
        await client.ping()
        assert not rig.streams[0].over.is_set()
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await rig.streams[0].over.wait()


async def test_a_peer_that_reads_nothing_at_all_is_cut() -> None:
    limits = Limits(write_buffer_bytes=1000, stall_timeout=0.05)
    async with serving(limits) as rig, rig.client() as client:
        rig.answer = bytes(4_000_000)
        client.greet({frames.INITIAL_WINDOW_SIZE: MAX_WINDOW})
        client.send(frames.window_update(0, MAX_WINDOW - 65_535), *(client.call(n, "/t/Answer") for n in (1, 3, 5, 7)))
        await client.writer.drain()
        await client.read()
        # Cut by its own timer: all its calls, answered or not, are gone with it.
        await rig.gone()
        assert rig.handled == 4


@pytest.mark.parametrize("budget", [0, 300_000])
async def test_large_messages_beyond_the_budget_all_come_to_their_end(budget: int) -> None:
    limits = Limits(max_message_bytes=250_000, message_budget=budget)
    async with serving(limits) as rig, grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}") as channel:
        bodies = [bytes((n,)) * (250_000 - n) for n in range(40)]
        calls = [channel.unary_unary("/t/Echo")(body) for body in bodies]
        stream = channel.stream_stream("/t/Stream")(iter(bodies[:10]))
        assert [answer async for answer in stream] == bodies[:10]
        assert await asyncio.gather(*calls) == bodies


async def test_waiting_for_room_ends_with_its_stream() -> None:
    limits = Limits(max_message_bytes=250_000, message_budget=0)
    async with serving(limits) as rig, rig.client() as client:
        client.greet()
        begin = b"\0" + (250_000).to_bytes(4)
        client.send(*(client.head(n, "/t/Echo") + frame(frames.DATA, 0, n, begin) for n in (1, 3, 5)))
        await client.ping()
        client.send(frames.reset(3, ErrorCode.CANCEL), frames.reset(1, ErrorCode.CANCEL))
        await client.until(lambda found: found.kind == frames.WINDOW_UPDATE and found.stream == 5)
        updated = {found.stream for found in client.seen if found.kind == frames.WINDOW_UPDATE}
        assert updated == {0, 1, 5}


# Honest clients.


async def test_long_streaming_costs_an_honest_client_no_patience() -> None:
    limits = Limits(patience_per_second=0)
    async with serving(limits) as rig, grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}") as channel:

        async def messages() -> AsyncIterator[bytes]:
            for n in range(20_000):
                yield b"%d" % n

        call = channel.stream_stream("/t/Stream")(messages())
        read = [answer async for answer in call]
        assert read == [b"%d" % n for n in range(20_000)]
        assert rig.only().patience._left > limits.patience // 2


async def test_many_calls_and_cancellations_cost_an_honest_client_no_patience() -> None:
    limits = Limits(patience_per_second=0)
    async with serving(limits) as rig, grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}") as channel:
        echo, hold = channel.unary_unary("/t/Echo"), channel.unary_unary("/t/Hold")
        for batch in (range(start, start + 100) for start in range(0, 5000, 100)):
            held = [hold(b"") for _ in batch[::4]]
            assert await asyncio.gather(*(echo(b"x") for _ in batch[25:])) == [b"x"] * 75
            for call in held:
                call.cancel()
        assert rig.only().patience._left > limits.patience // 2


async def test_sequential_calls_are_no_ping_flood() -> None:
    async with serving() as rig, grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}") as channel:
        rig.answer = bytes(30_000)
        for _ in range(300):
            await channel.unary_unary("/t/Answer")(b"")
        assert len(rig.transport.connections) == 1


# Ends.


async def drain(rig: Rig, client: Client) -> Frame:
    """Both frames with which a drain begins; returns the PING."""
    rig.only().drain()
    goaway = await client.until(is_goaway)
    assert (goaway.code, last(goaway)) == (ErrorCode.NO_ERROR, MAX_WINDOW)
    ping = await client.read()
    assert ping.kind == frames.PING
    return ping


async def test_draining_serves_what_comes_within_a_round_trip_and_nothing_after() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.call(1, "/t/Hold"))
        held = await rig.calls.get()
        ping = await drain(rig, client)
        client.send(client.call(3, "/t/Echo", b"between"), frame(frames.PING, frames.ACK, 0, ping.payload))
        assert await client.answer(3) == (0, message(b"between"))
        assert last(await client.until(is_goaway)) == 3
        client.send(client.call(5, "/t/Echo", b"late"), frames.window_update(5, 1), frames.reset(5, ErrorCode.CANCEL))
        await client.ping()
        assert rig.handled == 2
        held.reply(b"done")
        assert await client.answer(1) == (0, message(b"done"))
        assert await client.rest() == []


async def test_a_stream_opened_while_draining_is_told() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        await client.ping()
        await drain(rig, client)
        client.send(client.head(1, "/t/Stream"))
        assert (await client.answer(1))[0] == 14
        assert rig.streams[0].drained
        assert rig.streams[0].over.is_set()


async def test_a_client_that_does_not_answer_the_drain_is_closed_all_the_same() -> None:
    async with serving(Limits(keepalive_timeout=0.05)) as rig, rig.client() as client:
        client.greet()
        await client.ping()
        await drain(rig, client)
        assert last(await client.until(is_goaway)) == 0
        assert await client.rest() == []


async def test_stopping_closes_idle_connections() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        await client.ping()
        stop = asyncio.create_task(rig.transport.stop(10))
        ping = await client.until(lambda found: found.kind == frames.PING)
        client.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        await client.rest()
        await stop


async def test_old_connections_are_asked_to_go() -> None:
    async with serving(Limits(max_age=0.05)) as rig, rig.client() as client:
        client.greet()
        assert last(await client.until(is_goaway)) == MAX_WINDOW
        ping = await client.read()
        client.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        assert last(await client.until(is_goaway)) == 0
        assert await client.rest() == []


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 900), (0.5, 1000), (1.0, 1100)])
async def test_connections_do_not_all_grow_old_together(chance: float, seconds: float) -> None:
    async with serving(Limits(max_age=1000), chance=lambda: chance) as rig, rig.client() as client:
        client.greet()
        await client.ping()
        assert rig.transport.lifetime() == pytest.approx(seconds)
        timer = rig.only()._age
        assert timer is not None
        assert timer.when() - asyncio.get_running_loop().time() == pytest.approx(seconds, abs=PATIENCE)


async def test_without_an_age_there_is_no_timer() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        await client.ping()
        assert rig.only()._age is None


async def test_an_old_connection_whose_calls_do_not_end_is_cut() -> None:
    async with serving(Limits(max_age=0.02, age_grace=0.05)) as rig, rig.client() as client:
        client.greet()
        client.send(client.call(1, "/t/Hold"))
        await client.until(is_goaway)
        await client.rest()
        await rig.gone()
        assert rig.cancelled == 1


async def test_an_old_connection_answers_what_it_took_and_a_new_one_takes_its_place() -> None:
    async with serving(Limits(max_age=0.05)) as rig, grpc.aio.insecure_channel(f"127.0.0.1:{rig.port}") as channel:
        call = channel.unary_unary("/t/Hold")(b"")
        held = await rig.calls.get()
        while len(rig.transport.connections) < 2:
            await channel.unary_unary("/t/Echo")(b"")
        held.reply(b"in time")
        assert await call == b"in time"


async def test_a_client_that_says_goodbye_is_answered_and_closed() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.call(1, "/t/Hold"), frames.goaway(0, ErrorCode.NO_ERROR))
        held = await rig.calls.get()
        held.reply(b"x")
        assert await client.answer(1) == (0, message(b"x"))
        assert await client.rest() == []


async def test_a_connection_that_breaks_cancels_its_calls() -> None:
    async with serving() as rig:
        async with rig.client() as client:
            client.greet()
            client.send(client.call(1, "/t/Hold"), client.head(3, "/t/Stream"))
            await client.ping()
        await rig.gone()
        assert rig.cancelled == 1
        assert rig.streams[0].over.is_set()
