"""What control frames cost, by a clock that a test sets."""

import pytest

from serving.transport.native import frames
from serving.transport.native.frames import ErrorCode, PeerError, frame
from serving.transport.native.limits import Limits
from serving.transport.native.patience import Patience
from tests.serving.transport.native.client import message
from tests.serving.transport.native.rig import serving


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


LIMITS = Limits(patience=100, patience_per_second=10)


def spent(patience: Patience, frames: int) -> bool:
    """Whether so many more are too many."""
    try:
        for _ in range(frames):
            patience.spend(1)
    except PeerError as error:
        return error.code is ErrorCode.ENHANCE_YOUR_CALM
    return False


def test_time_gives_patience_back() -> None:
    clock = Clock()
    patience = Patience(LIMITS, clock)
    assert not spent(patience, 100)
    clock.now += 3
    assert not spent(patience, 30)
    assert spent(patience, 1)


def test_no_time_gives_none_back() -> None:
    patience = Patience(LIMITS, Clock())
    assert not spent(patience, 100)
    assert spent(patience, 1)


def test_a_steady_pace_is_borne_for_ever() -> None:
    clock = Clock()
    patience = Patience(LIMITS, clock)
    for _ in range(1000):
        clock.now += 1
        assert not spent(patience, 10)


def test_a_long_silence_is_no_licence() -> None:
    clock = Clock()
    patience = Patience(LIMITS, clock)
    assert not spent(patience, 100)
    clock.now += 1e6
    assert not spent(patience, 101), "the one that found none left, and as many as ever"
    assert spent(patience, 1)


def test_time_is_counted_once() -> None:
    clock = Clock()
    patience = Patience(LIMITS, clock)
    assert not spent(patience, 100)
    clock.now += 2
    assert not spent(patience, 20)
    assert spent(patience, 1)
    assert spent(patience, 1)


def test_calls_give_patience_back_but_save_none_up() -> None:
    patience = Patience(LIMITS, Clock())
    patience.earn(10_000)
    assert not spent(patience, 100)
    patience.earn(5)
    assert not spent(patience, 5)
    assert spent(patience, 1)


@pytest.mark.asyncio
async def test_a_connection_is_given_patience_back_over_time() -> None:
    """So much for a microsecond that it makes no difference how fast this test is."""
    limits = Limits(patience=10, patience_per_second=10**9, max_pings_without_calls=10**6)
    async with serving(limits) as rig, rig.client() as client:
        client.greet()
        for _ in range(20):
            client.send(frame(frames.PING, 0, 0, bytes(8)) * 10)
            await client.ping()
        client.send(client.call(1, "/t/Echo", b"x"))
        assert await client.answer(1) == (0, message(b"x"))
