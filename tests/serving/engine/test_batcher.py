"""The batching policy, step by step and over random arrivals."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.batcher import DEPTH, MAX_SETTLE_SECONDS, Limits
from serving.engine.cost import CostModel
from serving.status import Code, StatusError
from tests.serving.engine.stage import Caller, Stage

LIMITS = Limits(max_batch_rows=8, max_queue_rows=64)


def answer(caller: Caller) -> list[int]:
    assert len(caller.answers) == 1
    assert not isinstance(caller.answers[0], StatusError)
    return list(caller.answers[0][0])


def test_a_lone_request_leaves_in_the_next_turn() -> None:
    stage = Stage(LIMITS)
    caller = stage.submit()
    assert not stage.batches
    stage.turn()
    assert [batch.reason for _, batch in stage.batches] == ["idle"]
    stage.release()
    assert answer(caller) == caller.rows


def test_requests_of_one_turn_leave_together() -> None:
    stage = Stage(LIMITS)
    callers = [stage.submit(2) for _ in range(3)]
    stage.turn()
    assert [batch.rows for _, batch in stage.batches] == [6]
    stage.release()
    assert [answer(caller) for caller in callers] == [caller.rows for caller in callers]


def test_rows_queued_while_the_executor_is_held_leave_as_one_full_batch() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    callers = [stage.submit() for _ in range(7)]
    stage.turn()
    assert len(stage.batches) == 1, "a batch that is not full waits for the executor"
    callers += [stage.submit() for _ in range(5)]
    stage.turn()
    assert [batch.rows for _, batch in stage.batches] == [1, 8], "a full one is built while the first computes"
    callers += [stage.submit() for _ in range(20)]
    stage.turn()
    assert len(stage.held) == DEPTH, "never more than two in the pipe"
    stage.release()
    assert [(batch.rows, batch.reason) for _, batch in stage.batches] == [(1, "idle"), (8, "full"), (8, "full")]
    stage.finish()
    assert [batch.rows for _, batch in stage.batches] == [1, 8, 8, 8, 8]
    assert all(answer(caller) == caller.rows for caller in callers)


def test_every_instance_that_is_idle_pulls() -> None:
    stage = Stage(replace(LIMITS, instances=2))
    for _ in range(3):
        stage.submit()
        stage.turn()
    assert [batch.rows for _, batch in stage.batches] == [1, 1], "one each; the third row waits for either"
    for _ in range(30):
        stage.submit()
    stage.turn()
    assert [batch.rows for _, batch in stage.batches] == [1, 1, 8, 8], "and two full ones behind them"
    stage.finish()


def test_two_instances_are_expected_to_take_half_as_long() -> None:
    cost = CostModel()
    cost.observe(64, 0.5)
    one, two = Stage(LIMITS, cost=cost), Stage(replace(LIMITS, instances=2), cost=cost)
    assert one.batcher._wait(16, 128) == 2 * one.batcher._wait(8, 64) == 1.0
    assert two.batcher._wait(16, 128) == two.batcher._wait(8, 64) == 0.5, "two at once, and one no sooner"


def test_requests_that_are_handed_over_one_a_turn_leave_together() -> None:
    stage = Stage(replace(LIMITS, settle_turns=2))
    callers = []
    for _ in range(3):
        callers.append(stage.submit())
        stage.turn_once()
        stage.turn_once()
        assert not stage.batches, "one turn without a new request is not yet the end of them"
    stage.turn_once()
    assert [(batch.rows, batch.reason) for _, batch in stage.batches] == [(3, "idle")]
    stage.release()
    assert [answer(caller) for caller in callers] == [caller.rows for caller in callers]


def test_a_full_batch_does_not_wait_for_the_loop_to_settle() -> None:
    stage = Stage(replace(LIMITS, settle_turns=2))
    stage.submit(8)
    stage.turn_once()
    assert [(batch.rows, batch.reason) for _, batch in stage.batches] == [(8, "full")]


def test_a_loop_that_never_settles_is_not_waited_for_longer_than_the_bound() -> None:
    stage = Stage(replace(LIMITS, settle_turns=2, max_batch_rows=64))
    for _ in range(7):
        stage.submit()
        stage.turn_once()
        stage.advance(MAX_SETTLE_SECONDS / 8)
    assert not stage.batches
    stage.advance(MAX_SETTLE_SECONDS / 4)
    stage.submit()
    stage.turn_once()
    assert [(batch.rows, batch.reason) for _, batch in stage.batches] == [(8, "idle")]


def test_after_a_batch_the_loop_settles_anew() -> None:
    stage = Stage(replace(LIMITS, settle_turns=2))
    stage.submit()
    stage.turn()
    stage.release()
    stage.submit()
    stage.turn_once()
    stage.turn_once()
    assert len(stage.batches) == 1
    stage.turn_once()
    assert len(stage.batches) == 2


def test_a_request_larger_than_a_batch_is_split_and_rejoined() -> None:
    stage = Stage(LIMITS)
    caller = stage.submit(20)
    other = stage.submit(3)
    stage.finish()
    assert [batch.rows for _, batch in stage.batches] == [8, 8, 7]
    assert answer(caller) == caller.rows
    assert answer(other) == other.rows


def test_pieces_that_finish_out_of_order_are_joined_in_order() -> None:
    stage = Stage(LIMITS)
    caller = stage.submit(16)
    stage.turn()
    assert len(stage.held) == 2
    stage.held.reverse()
    stage.release()
    assert not caller.answers
    stage.release()
    assert answer(caller) == caller.rows


def test_earliest_deadline_first_within_a_priority() -> None:
    stage = Stage(replace(LIMITS, max_batch_rows=1))
    stage.submit()
    stage.turn()
    late, none, soon = stage.submit(timeout=20), stage.submit(), stage.submit(timeout=5)
    urgent = stage.submit(priority=-1)
    stage.finish()
    order = [batch.pieces[0][0] for _, batch in stage.batches[1:]]
    assert order == [urgent.request, soon.request, none.request, late.request]


def test_an_expired_request_is_never_computed_and_told_so() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    expired, alive = stage.submit(timeout=1), stage.submit(timeout=10)
    stage.advance(2)
    stage.finish()
    assert expired.code is Code.DEADLINE_EXCEEDED
    assert answer(alive) == alive.rows
    assert [batch.rows for _, batch in stage.batches] == [1, 1]


def test_cancelled_rows_leave_the_queue_at_once_and_others_never_notice() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    gone, stays = stage.submit(5), stage.submit(2)
    stage.cancel(gone)
    assert stage.batcher.queued_rows == 2
    stage.finish()
    assert gone.answers == []
    assert answer(stays) == stays.rows
    assert [batch.rows for _, batch in stage.batches] == [1, 2]


def test_cancelling_a_request_that_is_running_drops_only_its_own_answer() -> None:
    stage = Stage(LIMITS)
    gone, stays = stage.submit(12), stage.submit(2)
    stage.turn()
    stage.cancel(gone)
    stage.finish()
    assert gone.answers == []
    assert answer(stays) == stays.rows
    assert [batch.rows for _, batch in stage.batches] == [8, 2]


def test_cancelled_requests_do_not_pile_up_in_memory() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    for _ in range(1000):
        stage.cancel(stage.submit(timeout=60))
    assert len(stage.batcher._queue._entries) <= 2


def test_a_failed_batch_is_retried_piece_by_piece() -> None:
    stage = Stage(LIMITS)
    callers = [stage.submit() for _ in range(3)]
    fault = StatusError(Code.INTERNAL, "fault")
    stage.turn()
    stage.release(fault)
    stage.release()
    stage.release(fault)
    stage.release()
    assert [caller.code for caller in callers] == [Code.OK, Code.INTERNAL, Code.OK]


def test_a_failed_piece_fails_its_whole_request_once() -> None:
    stage = Stage(LIMITS)
    caller = stage.submit(20)
    stage.turn()
    stage.release(StatusError(Code.INTERNAL, "fault"))
    stage.finish()
    assert caller.code is Code.INTERNAL
    assert len(caller.answers) == 1
    assert sum(batch.rows for _, batch in stage.batches) == 16, "the rest is not computed any more"


def test_a_delay_waits_for_more_rows_but_not_longer() -> None:
    stage = Stage(replace(LIMITS, max_delay=0.010))
    stage.submit()
    stage.turn()
    stage.advance(0.004)
    stage.submit()
    stage.turn()
    assert not stage.batches
    stage.advance(0.0061)
    assert [(round(at - 100, 4), batch.rows, batch.reason) for at, batch in stage.batches] == [(0.01, 2, "delay")]
    stage.release()
    for _ in range(8):
        stage.submit()
    stage.turn()
    assert stage.batches[-1][1].reason == "full"


def test_a_delay_gives_way_to_a_deadline() -> None:
    cost = CostModel()
    cost.observe(8, 0.002)
    stage = Stage(replace(LIMITS, max_delay=1.0), cost=cost)
    caller = stage.submit(timeout=0.010)
    stage.turn()
    stage.advance(0.0081)
    assert [batch.reason for _, batch in stage.batches] == ["deadline"]
    stage.release()
    assert caller.code is Code.OK


def test_draining_does_not_wait_and_says_when_it_is_through() -> None:
    stage = Stage(replace(LIMITS, max_delay=1.0))
    caller = stage.submit()
    stage.turn()
    stage.finish()
    assert stage.idle
    assert [batch.reason for _, batch in stage.batches] == ["drain"]
    assert caller.code is Code.OK


def test_draining_ends_when_the_last_waiting_request_is_cancelled() -> None:
    stage = Stage(LIMITS)
    stage.submit()
    stage.turn()
    caller = stage.submit()
    stage.batcher.drain(lambda: setattr(stage, "idle", True))
    stage.release()
    stage.cancel(caller)
    while stage.held:
        stage.release()
    stage.turn()
    assert stage.idle


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.integers(1, 20),
            st.one_of(st.none(), st.floats(0.0005, 0.2)),
            st.integers(-1, 1),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 100)),
        st.tuples(st.just("advance"), st.floats(0, 0.05)),
        st.tuples(st.just("turn")),
        st.tuples(st.just("release"), st.sampled_from([False, False, False, True])),
    ),
    max_size=120,
)


@given(
    steps=STEPS,
    batch=st.integers(1, 9),
    queue=st.integers(9, 64),
    delay=st.sampled_from([0.0, 0.0, 0.003]),
    settle=st.sampled_from([0, 0, 3]),
    instances=st.sampled_from([1, 1, 3]),
)
@settings(max_examples=300, deadline=None)
def test_every_caller_gets_its_own_answer_once(
    steps: list[tuple[object, ...]], batch: int, queue: int, delay: float, settle: int, instances: int
) -> None:
    stage = Stage(Limits(batch, queue, max_delay=delay, settle_turns=settle, instances=instances))
    callers: list[Caller] = []
    fault = StatusError(Code.INTERNAL, "fault")
    for step in steps:
        match step:
            case ("submit", int(rows), timeout, int(priority)):
                callers.append(stage.submit(rows, timeout, priority))  # type: ignore[arg-type]
            case ("cancel", int(index)) if callers:
                caller = callers[index % len(callers)]
                if not caller.answers and caller.refused is None and not caller.cancelled:
                    stage.cancel(caller)
            case ("advance", float(seconds)):
                stage.advance(seconds)
            case ("turn",):
                stage.turn()
            case ("release", bool(fails)) if stage.held:
                stage.release(fault if fails else None)
            case _:
                pass
        assert stage.batcher.queued_rows == sum(request.waiting for request in stage.batcher._queue)
        assert stage.batcher.queued_rows <= queue
        assert len(stage.held) <= DEPTH * instances
    stage.turn()
    stage.finish()
    assert stage.idle
    assert stage.batcher.queued_rows == stage.batcher._queue.size == 0

    for at, made in stage.batches:
        assert 1 <= made.rows <= batch
        assert made.rows == sum(stop - start for _, start, stop in made.pieces)
        assert made.reason != "full" or made.rows == batch
        ranks = [(request.priority, request.due) for request, _, _ in made.pieces]
        assert ranks == sorted(ranks)
        for request, start, _ in made.pieces:
            retried = [b for t, b in stage.batches if t <= at for r, s, _ in b.pieces if (r, s) == (request, start)]
            assert request.deadline > at or len(retried) > 1, "an expired row was computed"
    for caller in callers:
        if caller.refused is not None:
            assert caller.answers == []
            assert caller.refused.code in (Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT)
        elif caller.cancelled:
            assert caller.answers == []
        else:
            assert len(caller.answers) == 1
            if not isinstance(caller.answers[0], StatusError):
                np.testing.assert_array_equal(caller.answers[0][0], caller.rows)
            elif caller.code is Code.DEADLINE_EXCEEDED:
                assert caller.request.deadline < math.inf
            else:
                assert caller.code is Code.INTERNAL
