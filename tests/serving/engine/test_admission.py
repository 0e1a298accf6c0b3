"""Which requests the batcher takes: those that fit into the queue, and that can be answered in time."""

from dataclasses import replace

import pytest

from serving.engine.batcher import SAFE_SHARE, Limits
from serving.engine.cost import CostModel
from serving.status import Code
from tests.serving.engine.stage import Stage

LIMITS = Limits(max_batch_rows=8, max_queue_rows=64)


def test_a_full_queue_refuses_with_a_pushback() -> None:
    stage = Stage(LIMITS)
    stage.submit(8)
    stage.turn()
    stage.release()
    stage.submit(16)
    stage.turn()
    callers = [stage.submit(32), stage.submit(32), stage.submit(1)]
    assert [caller.code for caller in callers] == [None, None, Code.RESOURCE_EXHAUSTED]
    refused = callers[2].refused
    assert refused is not None
    assert refused.reason == "queue_full"
    assert refused.retry_after is not None
    assert refused.retry_after == pytest.approx((64 + 16) * stage.seconds_per_row, rel=0.3)


def test_a_queue_is_bounded_in_bytes_too() -> None:
    stage = Stage(replace(LIMITS, max_queue_bytes=1000))
    stage.submit()
    stage.turn()
    assert stage.submit(size=900).code is None
    refused = stage.submit(size=200)
    assert refused.code is Code.RESOURCE_EXHAUSTED
    assert "1000 bytes" in str(refused.refused)


def test_expired_requests_do_not_keep_out_others() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    old = [stage.submit(4, timeout=1) for _ in range(16)]
    # One full batch is in the pipe; fill up what it left.
    old += [stage.submit(4, timeout=1) for _ in range(2)]
    stage.turn()
    old += [stage.submit(4, timeout=1) for _ in range(2)]
    assert stage.submit(4).code is Code.RESOURCE_EXHAUSTED
    stage.advance(2)
    assert stage.submit(4).code is None
    assert {caller.code for caller in old} == {None, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}


def test_what_can_not_be_answered_in_time_is_refused_at_once() -> None:
    stage = Stage(LIMITS, seconds_per_row=1.0)
    stage.submit(8)
    stage.turn()
    stage.release()
    stage.submit(8)
    stage.turn()
    refused = stage.submit(8, timeout=12)
    assert refused.code is Code.RESOURCE_EXHAUSTED
    assert refused.refused is not None
    assert refused.refused.reason == "too_late"
    assert "would take 16000.0 ms, and the deadline is in 12000.0 ms" in refused.refused.message
    assert stage.submit(8, timeout=16 / SAFE_SHARE - 0.1).code is Code.RESOURCE_EXHAUSTED, "not at the last moment"
    assert stage.submit(8, timeout=16 / SAFE_SHARE + 0.1).code is None


def test_a_queue_that_moves_more_slowly_than_its_batches_run_is_known_by_its_pace() -> None:
    stage = Stage(replace(LIMITS, max_queue_rows=400), seconds_per_row=1.0)
    for _ in range(40):
        stage.submit(8)
    stage.submit(8)
    for _ in range(40):
        stage.turn()
        stage.advance(16)  # the loop has other work for twice as long as a batch takes
        stage.release()
    stage.submit(8)
    stage.turn()
    refused = stage.submit(8, timeout=30)
    assert refused.code is Code.RESOURCE_EXHAUSTED, "16 s of batches, but 48 s until they are through"
    while stage.held:
        stage.release()
    for _ in range(60):
        stage.submit(8)
        stage.turn()
        stage.release()
    stage.submit(8)
    stage.turn()
    assert stage.submit(8, timeout=30).code is None, "and forgotten when the queue is empty again and again"


def test_only_those_ahead_count_towards_the_wait() -> None:
    stage = Stage(LIMITS, seconds_per_row=1.0)
    stage.submit(8)
    stage.turn()
    stage.release()
    stage.submit(1)
    stage.turn()
    for _ in range(4):
        stage.submit(8, timeout=1000)
    stage.turn()
    assert stage.submit(1, timeout=32).code is None, "it goes before those that can wait"


def test_an_idle_executor_takes_even_what_seems_hopeless() -> None:
    cost = CostModel()
    cost.observe(8, 1000.0)
    stage = Stage(LIMITS, cost=cost)
    caller = stage.submit(timeout=1)
    stage.finish()
    assert caller.code is Code.OK


def test_more_rows_than_the_queue_can_ever_hold_is_invalid() -> None:
    refused = Stage(LIMITS).submit(65)
    assert refused.code is Code.INVALID_ARGUMENT
    assert "65 instances" in str(refused.refused)
