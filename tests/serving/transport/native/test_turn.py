"""Turns of the event loop, shared among connections."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from serving.transport.native import frames
from serving.transport.native.frames import frame
from serving.transport.native.turn import Turn, Waiting
from tests.serving.transport.native.client import END, message
from tests.serving.transport.native.rig import serving

pytestmark = pytest.mark.asyncio


class Taker:
    """A connection that takes a millisecond at a time, and wants several."""

    def __init__(self, turn: Turn, name: str, wanted: int, diary: list[str]) -> None:
        self.turn, self.name, self.wanted, self.diary = turn, name, wanted, diary

    def go_on(self) -> None:
        self.diary.append(self.name)
        self.wanted -= 1
        if self.wanted:
            self.turn.wait(self)

    def abort(self) -> None:
        self.diary.append(f"{self.name} is dropped")


async def test_a_turn_has_its_time_and_no_more() -> None:
    turn = Turn(asyncio.get_running_loop(), 0.5)
    assert turn.has_time(10.0)
    assert turn.has_time(10.4)
    assert not turn.has_time(10.5)
    await asyncio.sleep(0)
    assert turn.has_time(20.0), "the next one begins when it is asked for"


async def test_one_that_fails_is_dropped_and_the_others_go_on() -> None:
    class Failing(Taker):
        def go_on(self) -> None:
            raise MemoryError

    diary: list[str] = []
    turn = Turn(asyncio.get_running_loop())
    assert turn.has_time(time.monotonic())
    for taker in (Failing(turn, "a", 1, diary), Taker(turn, "b", 2, diary)):
        turn.wait(taker)
    for _ in range(5):
        await asyncio.sleep(0)
    assert diary == ["a is dropped", "b", "b"]


async def test_those_that_wait_take_turns() -> None:
    turn, diary = Turn(asyncio.get_running_loop(), 0.0), list[str]()
    assert turn.has_time(time.monotonic())
    for name, wanted in (("a", 3), ("b", 1), ("c", 2)):
        turn.wait(Taker(turn, name, wanted, diary))
    while len(diary) < 6:
        seen = len(diary)
        await asyncio.sleep(0)
        assert len(diary) <= seen + 1, "one at a time where a turn has time for no more"
    assert diary == ["a", "b", "c", "a", "c", "a"]
    await asyncio.sleep(0)
    assert turn.has_time(time.monotonic() + 1)


async def test_all_is_answered_however_short_the_turns_are() -> None:
    bodies = [bytes((number,)) * 3000 for number in range(60)]
    async with serving() as rig, AsyncExitStack() as stack:
        rig.transport.turn = Turn(rig.transport.loop, 0.0)
        clients = [await stack.enter_async_context(rig.client()) for _ in range(3)]
        for client in clients:
            client.greet()
            client.send(frames.window_update(0, 1 << 20))
            client.send(b"".join(client.call(1 + 2 * n, "/t/Echo", body) for n, body in enumerate(bodies)))
        for client in clients:
            for number, body in enumerate(bodies):
                assert await client.answer(1 + 2 * number) == (0, message(body))


class Shut(Turn):
    """No time for anything until it is opened."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.shut = True
        self.waited = asyncio.Event()

    def has_time(self, now: float) -> bool:
        return not self.shut and super().has_time(now)

    def wait(self, connection: Waiting) -> None:
        super().wait(connection)
        self.waited.set()


async def test_what_waits_is_bounded_and_nothing_of_it_is_lost() -> None:
    bodies = [bytes((number,)) * 3000 for number in range(100)]
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(frames.window_update(0, 1 << 20), client.call(1, "/t/Echo", b""))
        assert await client.answer(1) == (0, message())
        turn = rig.transport.turn = Shut(rig.transport.loop)
        client.send(b"".join(client.call(3 + 2 * n, "/t/Echo", body) for n, body in enumerate(bodies)))
        connection = rig.only()
        while not connection._full:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)  # for the sockets, not for a time
        # A client that does not read either, and then does, meanwhile: neither pause ends with the other.
        connection.pause_writing()
        connection.resume_writing()
        assert connection._full
        connection.pause_writing()
        turn.shut = False
        rig.transport.loop.call_soon(turn._over)
        while connection._full:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        connection.resume_writing()
        for number, body in enumerate(bodies):
            assert await client.answer(3 + 2 * number) == (0, message(body))


async def test_a_deadline_counts_from_when_the_call_came_not_from_when_it_had_its_turn() -> None:
    async with serving() as rig, rig.client() as client:
        client.greet()
        client.send(client.call(1, "/t/Echo", b"before"))
        assert await client.answer(1) == (0, message(b"before"))
        turn = rig.transport.turn = Shut(rig.transport.loop)
        client.send(client.head(3, "/t/Hold", ("grpc-timeout", "10S")), frame(frames.DATA, END, 3, message()))
        await turn.waited.wait()
        came = time.monotonic()
        turn.shut = False
        rig.transport.loop.call_soon(turn._over)
        call = await rig.calls.get()
        assert call.deadline - 10 <= came
        call.reply(b"")
