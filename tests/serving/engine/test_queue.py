"""The queue: order, counts of rows and bytes, and rows that leave in pieces."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.queue import Queue
from serving.engine.request import DEFAULT_PATIENCE, Request
from serving.status import Code, StatusError

LATE = StatusError(Code.DEADLINE_EXCEEDED, "late")


def make(rows: int = 1, deadline: float = math.inf, priority: int = 0, arrival: float = 0.0) -> Request:
    return Request([list(range(rows))], rows, 10 * rows, arrival, lambda *_: None, deadline, priority)


def filled(*requests: Request) -> Queue:
    queue = Queue()
    for request in requests:
        queue.push(request)
    return queue


def test_an_empty_queue_has_nothing() -> None:
    queue = Queue()
    assert (len(queue), queue.rows, queue.size, queue.head(), list(queue)) == (0, 0, 0, None, [])
    assert queue.take(8, now=0) == ([], [])
    assert queue.expired(now=math.inf) == []
    assert queue.share_ahead(0, 0.0) == 0.0


def test_priority_then_due_time_then_arrival() -> None:
    late, patient, soon = make(deadline=20), make(), make(deadline=5)
    urgent, same = make(deadline=90, priority=-1), make(deadline=5)
    queue = filled(late, patient, soon, urgent, same)
    assert patient.due == DEFAULT_PATIENCE
    assert list(queue) == [urgent, soon, same, patient, late]
    assert queue.head() is urgent


def test_rows_and_bytes_are_counted() -> None:
    queue = filled(make(3), make(5))
    assert (len(queue), queue.rows, queue.size) == (2, 8, 80)


def test_a_request_leaves_in_pieces_and_keeps_its_place() -> None:
    first, second = make(5), make(2)
    queue = filled(first, second)
    assert queue.take(3, now=0) == ([(first, 0, 3)], [])
    assert (queue.rows, queue.size, first.waiting, queue.head()) == (4, 70, 2, first)
    assert queue.take(3, now=0) == ([(first, 3, 5), (second, 0, 1)], [])
    assert (queue.rows, queue.size, len(queue)) == (1, 20, 1)
    assert queue.take(3, now=0) == ([(second, 1, 2)], [])
    assert (queue.rows, queue.size, len(queue)) == (0, 0, 0)


def test_what_expired_is_passed_over_and_given_back() -> None:
    expired, alive = make(4, deadline=1), make(2, deadline=9)
    queue = filled(expired, alive)
    assert queue.expired(now=1) == [expired]
    assert queue.take(8, now=1) == ([(alive, 0, 2)], [expired])
    assert (queue.rows, queue.size, len(queue)) == (0, 0, 0)


def test_a_request_may_expire_between_its_pieces() -> None:
    request = make(4, deadline=1)
    queue = filled(request)
    queue.take(1, now=0)
    assert queue.take(8, now=2) == ([], [request])
    assert (queue.rows, queue.size) == (0, 0)


def test_one_that_is_discarded_gives_its_room_back_at_once() -> None:
    gone, stays = make(4), make(2)
    queue = filled(gone, stays)
    queue.discard(gone)
    assert (list(queue), queue.rows, queue.size, len(queue)) == ([stays], 2, 20, 1)
    assert gone.inputs == (), "nor does it hold its inputs any longer"
    queue.discard(gone)
    assert (queue.rows, queue.size, len(queue)) == (2, 20, 1), "a second time changes nothing"
    assert queue.take(8, now=0) == ([(stays, 0, 2)], [])


def test_one_that_has_left_may_be_discarded_all_the_same() -> None:
    left, stays = make(2), make(2)
    queue = filled(left, stays)
    queue.take(2, now=0)
    queue.discard(left)
    assert (list(queue), queue.rows, queue.size) == ([stays], 2, 20)
    assert left.inputs != (), "a batch may still read them"


def test_the_caller_of_a_discarded_request_is_told_if_there_is_something_to_tell() -> None:
    told: list[Any] = []
    request = Request([[0]], 1, 10, 0.0, lambda _, result: told.append(result))
    filled(request).discard(request, LATE)
    assert told == [LATE]


def test_the_share_ahead_counts_those_that_would_go_first() -> None:
    queue = filled(make(deadline=1), make(deadline=2), make(deadline=3), make(deadline=4))
    assert [queue.share_ahead(0, due) for due in (0.5, 2.5, 4.0, 9.0)] == [0.0, 0.5, 1.0, 1.0]
    assert queue.share_ahead(-1, 9.0) == 0.0
    assert queue.share_ahead(1, 0.0) == 1.0


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"), st.integers(1, 9), st.one_of(st.just(math.inf), st.floats(0, 9)), st.integers(-1, 1)
        ),
        st.tuples(st.just("take"), st.integers(1, 12), st.floats(0, 9)),
        st.tuples(st.just("discard"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(STEPS)
def test_counts_are_right_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    queue = Queue()
    pushed: list[Request] = []
    for step in steps:
        match step:
            case ("push", rows, deadline, priority):
                pushed.append(make(rows, deadline, priority))
                queue.push(pushed[-1])
            case ("take", rows, now):
                pieces, expired = queue.take(rows, now)
                taken = sum(stop - start for _, start, stop in pieces)
                assert taken == rows or not queue.rows
                assert all(request.deadline <= now for request in expired)
                assert all(request.deadline > now for request, _, _ in pieces)
                for request in expired:
                    request.finish(LATE)
            case ("discard", index) if pushed:
                queue.discard(pushed[index % len(pushed)])
        waiting = [request for request in pushed if request.waiting]
        assert sorted(map(id, queue)) == sorted(map(id, waiting))
        assert len(queue) == len(waiting)
        assert queue.rows == sum(request.waiting for request in waiting)
        assert queue.size == sum(request.size for request in waiting)
        assert [(r.priority, r.due) for r in queue] == sorted((r.priority, r.due) for r in waiting)
