"""The engine on a real loop, with a real session: where batches run, and what becomes of those that fail."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from onnx import TensorProto

from serving import redaction
from serving.engine.batcher import Batch, Execution, Limits
from serving.engine.cost import CostModel
from serving.engine.device import CPU, Device
from serving.engine.engine import FAILURES, INLINE_SECONDS, Engine, Runner, alone
from serving.engine.request import Outputs, Request
from serving.engine.runs import Runs
from serving.engine.session import Session
from serving.package.manifest import InputSpec, OutputSpec
from serving.status import Code, StatusError
from tests.serving.packages import DOUBLE, FRAGILE, graph, manifest

pytestmark = pytest.mark.asyncio

DROPS_ZEROS = graph(
    [
        ("ReduceMax", ["x"], ["most"], {"axes": [1], "keepdims": 0}),
        ("Cast", ["most"], ["keep"], {"to": TensorProto.BOOL}),
        ("Compress", ["x", "keep"], ["y"], {"axis": 0}),
    ],
    {"x": ["N", 2]},
    {"y": ["N", 2]},
)
"""Returns its rows but those of zeros."""


class Diary:
    """Keeps what an engine tells its observer, and on which thread batches ran."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.pulls = 0

    def pulled(self, request: Request, waited: float) -> None:
        assert waited >= 0
        self.pulls += 1

    def ran(self, batch: Batch, execution: Execution) -> None:
        assert execution.seconds >= 0
        self.batches.append(batch)


class TracedSession(Session):
    """A real session that remembers its threads, and can be held on a worker."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model, Device(CPU))
        self.threads: list[threading.Thread] = []
        self.began = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def run(self, outputs: list[str], feed: Any, options: Any = None) -> Outputs:
        self.threads.append(threading.current_thread())
        self.began.set()
        if threading.current_thread() is not threading.main_thread():
            assert self.go.wait(30)
        return super().run(outputs, feed, options)


class Desk:
    """An engine over a graph, and its callers."""

    def __init__(self, model: bytes = DOUBLE, seconds: float = 0.0, limits: Limits | None = None) -> None:
        fields: dict[str, Any] = {}
        if model is FRAGILE:
            fields = {
                "inputs": (InputSpec("features", "FP32", (-1, 13)),),
                "outputs": (OutputSpec("price", "FP32", (-1, 1)),),
            }
        self.width = 13 if model is FRAGILE else 2
        self.session = TracedSession(model)
        # Not through verified load: these graphs are to fail while serving.
        self.runner = Runner(manifest(**fields), self.session)
        self.diary, self.runs = Diary(), Runs()
        cost = CostModel()
        cost.observe(4 * self.width, seconds)
        loop = asyncio.get_running_loop()
        self.engine = Engine([self.runner], limits or Limits(8, 64), self.diary, loop, cost, self.runs)

    def ask(self, *rows: float, **options: Any) -> "asyncio.Future[Outputs | StatusError]":
        """Submit rows, each filled with one number."""
        data = np.repeat(np.array(rows, "<f4"), self.width).tobytes()
        answer: asyncio.Future[Outputs | StatusError] = asyncio.get_running_loop().create_future()
        self.request = Request(
            [data], len(rows), len(data), time.monotonic(), lambda _, result: answer.set_result(result), **options
        )
        self.engine.submit(self.request)
        return answer


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.engine.close()


def column(answer: Outputs | StatusError) -> list[float]:
    assert not isinstance(answer, StatusError)
    return [float(row[0]) for row in answer[0]]


async def test_rows_are_computed_and_come_back_to_their_caller(desk: Desk) -> None:
    one, other = desk.ask(1, 2), desk.ask(3)
    assert column(await one) == [2, 4]
    assert column(await other) == [6]
    assert [(batch.rows, batch.reason) for batch in desk.diary.batches] == [(3, "idle")]
    assert desk.diary.pulls == 2


async def test_a_large_request_comes_back_in_order(desk: Desk) -> None:
    assert column(await desk.ask(*range(50))) == [2 * n for n in range(50)]
    assert [batch.rows for batch in desk.diary.batches] == [8] * 6 + [2]


@pytest.mark.parametrize(("seconds", "inline"), [(0.0, True), (INLINE_SECONDS, True), (2 * INLINE_SECONDS, False)])
async def test_short_batches_run_on_the_loop_and_longer_ones_on_a_worker(seconds: float, inline: bool) -> None:
    desk = Desk(seconds=seconds)
    assert column(await desk.ask(1)) == [2]
    [thread] = desk.session.threads
    assert (thread is threading.main_thread()) is inline
    await desk.engine.close()


async def test_the_loop_goes_on_while_a_worker_computes() -> None:
    desk = Desk(seconds=1)
    desk.session.go.clear()
    answer = desk.ask(1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not answer.done()
    desk.session.go.set()
    assert column(await answer) == [2]
    await desk.engine.close()


async def test_each_of_several_sessions_computes_while_the_others_do() -> None:
    sessions = [TracedSession(DOUBLE), TracedSession(DOUBLE)]
    for session in sessions:
        session.go.clear()
    cost = CostModel()
    cost.observe(8, 1.0)
    loop = asyncio.get_running_loop()
    runners = [Runner(manifest(), session) for session in sessions]
    engine = Engine(runners, Limits(8, 64), Diary(), loop, cost)
    answers = []
    for number in range(2):
        answers.append(loop.create_future())
        data = np.full(2, number, "<f4").tobytes()
        engine.submit(Request([data], 1, len(data), time.monotonic(), lambda _, r, n=number: answers[n].set_result(r)))
        # One batch on each, and none has ended.
        assert await asyncio.to_thread(sessions[number].began.wait, 30)
    for session in sessions:
        session.go.set()
    assert [column(await answer) for answer in answers] == [[0], [2]]
    await engine.close()


async def test_a_batch_that_proves_short_is_run_on_the_loop_later() -> None:
    desk = Desk(seconds=0.01)
    for _ in range(100):
        await desk.ask(1)
    assert desk.session.threads[0] is not threading.main_thread()
    assert threading.main_thread() in desk.session.threads
    await desk.engine.close()


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "worker"])
async def test_values_that_can_not_be_computed_are_the_callers(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], seconds: float
) -> None:
    desk = Desk(FRAGILE, seconds)
    error = await desk.ask(99)
    assert isinstance(error, StatusError)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith("double version 1 can't compute these values: indices element out of data bounds")
    assert caplog.records == []
    assert capfd.readouterr().err == "", "nor does ONNX Runtime write into the log"
    assert column(await desk.ask(1)) == [8], "it goes on"
    await desk.engine.close()


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "worker"])
async def test_a_failing_run_is_a_fault_with_a_number(caplog: pytest.LogCaptureFixture, seconds: float) -> None:
    desk = Desk(DROPS_ZEROS, seconds)
    error = await desk.ask(0)
    assert isinstance(error, StatusError)
    assert error.code is Code.INTERNAL
    [record] = caplog.records
    assert record.exc_info is not None
    assert vars(record)["where"] == "execution of double version 1"
    assert error.message.endswith(f"fault={vars(record)['fault']}")
    assert column(await desk.ask(1)) == [1], "it goes on"
    await desk.engine.close()


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "worker"])
async def test_the_batch_mates_of_a_failing_row_are_answered(seconds: float) -> None:
    desk = Desk(FRAGILE, seconds)
    answers = [desk.ask(0), desk.ask(1, 99), desk.ask(1)]
    assert column(await answers[0]) == [7]
    assert isinstance(await answers[1], StatusError)
    assert column(await answers[2]) == [8]
    await desk.engine.close()


async def test_a_session_is_doubted_after_failures_in_a_row() -> None:
    desk = Desk(DROPS_ZEROS)
    doubts: list[bool] = []
    desk.engine.doubted = lambda: doubts.append(True)
    for row in (0, 0, 1, 0, 0):
        await desk.ask(row)
    assert not doubts, "one that went well lies between"
    await desk.ask(0)
    assert doubts == [True]
    await desk.engine.close()


async def test_one_of_several_sessions_that_fails_is_noticed_although_the_others_succeed() -> None:
    sound, lost = TracedSession(DOUBLE), TracedSession(DROPS_ZEROS)  # of zeros, that is
    loop, doubts = asyncio.get_running_loop(), list[bool]()
    engine = Engine([Runner(manifest(), each) for each in (sound, lost)], Limits(8, 64), Diary(), loop, CostModel())
    engine.doubted = lambda: doubts.append(True)
    for _ in range(2 * FAILURES):
        answer = loop.create_future()
        engine.submit(Request([bytes(8)], 1, 8, time.monotonic(), lambda _, result, to=answer: to.set_result(result)))
        await answer
    assert len(sound.threads) == len(lost.threads) == FAILURES, "they take turns"
    assert doubts == [True]
    await engine.close()


@pytest.mark.parametrize("bad", [False, True], ids=["well", "with a batch that fails"])
async def test_a_session_that_hangs_does_not_stop_the_others(bad: bool) -> None:
    hung, other = TracedSession(FRAGILE), TracedSession(FRAGILE)
    hung.go.clear()
    cost = CostModel()
    cost.observe(52, 1.0)
    loop = asyncio.get_running_loop()
    fields = {"inputs": (InputSpec("features", "FP32", (-1, 13)),), "outputs": (OutputSpec("price", "FP32", (-1, 1)),)}
    runners = [Runner(manifest(**fields), session) for session in (hung, other)]
    engine = Engine(runners, Limits(8, 64), Diary(), loop, cost)

    def ask(value: float) -> "asyncio.Future[Outputs | StatusError]":
        answer = loop.create_future()
        data = np.full(13, value, "<f4").tobytes()
        engine.submit(Request([data], 1, 52, time.monotonic(), lambda _, result: answer.set_result(result)))
        return answer

    first = ask(0)
    assert await asyncio.to_thread(hung.began.wait, 30)
    if bad:
        mates = [ask(99), ask(1)]
        async with asyncio.timeout(30):
            assert isinstance(await mates[0], StatusError)
            assert column(await mates[1]) == [8]
    for _ in range(20):
        async with asyncio.timeout(30):
            assert column(await ask(1)) == [8]
    assert not first.done()
    hung.go.set()
    assert column(await first) == [7]
    await engine.close()


@pytest.mark.parametrize(
    ("kind", "words"), [(MemoryError, ""), (RuntimeError, "[ONNXRuntimeError] : 6 : std::bad_alloc")]
)
async def test_want_of_memory_is_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], words: str
) -> None:
    desk = Desk()
    doubts: list[bool] = []
    desk.engine.doubted = lambda: doubts.append(True)
    with monkeypatch.context() as patch:

        def run(*_: Any) -> Outputs:
            raise kind(words)

        patch.setattr(desk.session, "run", run)
        for _ in range(2 * FAILURES):
            found = await desk.ask(1)
            assert isinstance(found, StatusError)
            assert found.code is Code.RESOURCE_EXHAUSTED
    assert column(await desk.ask(1)) == [2]
    assert not doubts
    await desk.engine.close()


@pytest.mark.parametrize("dropped", [True, False])
async def test_what_is_under_way_is_seen_and_can_be_ended(dropped: bool) -> None:
    desk = Desk(seconds=1.0)
    doubts: list[bool] = []
    desk.engine.doubted = lambda: doubts.append(True)
    for _ in range(FAILURES):
        desk.session.go.clear()
        answer = desk.ask(1)
        async with asyncio.timeout(30):
            while not desk.runs.under_way:  # noqa: ASYNC110 - it begins on a thread
                await asyncio.sleep(0)
        [run] = desk.runs.under_way
        assert run.name == "double version 1"
        if dropped:
            desk.runs.end()
        else:
            run.end()
        desk.session.go.set()
        found = await answer
        assert isinstance(found, StatusError)
        assert found.code is Code.INTERNAL
        assert not desk.runs.under_way
    assert doubts == ([] if dropped else [True]), "one that hangs again and again is doubted; at the end none is"
    await desk.engine.close()


async def test_outputs_that_lost_a_row_are_never_handed_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_shows", True)
    desk = Desk(DROPS_ZEROS)
    answers = [desk.ask(1), desk.ask(0), desk.ask(3)]
    assert column(await answers[0]) == [1]
    assert isinstance(await answers[1], StatusError)
    assert column(await answers[2]) == [3]
    problems = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert problems[0] == "output y has shape (2, 2) for a batch of 3 rows"
    await desk.engine.close()


async def test_a_runner_alone_computes_a_whole_request() -> None:
    desk = Desk()
    desk.ask(1, 2, 3)
    [outputs] = desk.runner(alone(desk.request))
    assert outputs[:, 0].tolist() == [2, 4, 6]
    await desk.engine.close()


async def test_a_cancelled_request_is_neither_computed_nor_answered(desk: Desk) -> None:
    gone = desk.ask(1)
    desk.engine.cancel(desk.request)
    assert desk.engine.queued_rows == 0
    assert column(await desk.ask(2)) == [4]
    assert not gone.done()
    assert [batch.rows for batch in desk.diary.batches] == [1]


async def test_more_than_could_ever_wait_is_refused(desk: Desk) -> None:
    assert desk.engine.max_rows == 64
    with pytest.raises(StatusError, match="65 instances in one request"):
        desk.ask(*range(65))


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["inline", "worker"])
async def test_close_runs_what_is_queued_and_then_returns(seconds: float) -> None:
    desk = Desk(seconds=seconds, limits=Limits(8, 64, max_delay=1000.0))
    answers = [desk.ask(*range(5)) for _ in range(6)]
    assert desk.engine.queued_rows == 30
    await desk.engine.close()
    assert [column(answer.result()) for answer in answers] == [[0, 2, 4, 6, 8]] * 6
    assert desk.engine.queued_rows == 0
    assert all(not thread.is_alive() for thread in desk.session.threads if thread is not threading.main_thread())


async def test_close_waits_for_what_is_running() -> None:
    desk = Desk(seconds=1)
    desk.session.go.clear()
    answer = desk.ask(1)
    closing = asyncio.create_task(desk.engine.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    desk.session.go.set()
    await closing
    assert column(answer.result()) == [2]


async def test_an_idle_engine_closes_at_once_and_twice() -> None:
    desk = Desk()
    await desk.engine.close()
    await desk.engine.close()
