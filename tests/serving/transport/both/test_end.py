"""How a transport begins and ends: addresses, stopping, and connections that grow old."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from serving.transport.interface import TransportError
from tests.serving.transport.both.rig import (
    PATIENCE,
    Rig,
    ageing,
    error_of,
    everything,
    make,
    stream,
    unary,
)

pytestmark = pytest.mark.asyncio


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
