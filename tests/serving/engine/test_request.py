"""A request: one answer, whatever pieces it comes in."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from serving.engine.request import DEFAULT_PATIENCE, Outputs, Request
from serving.status import Code, StatusError

FAULT = StatusError(Code.INTERNAL, "fault")


class Caller:
    """A request of some rows, and its answers."""

    def __init__(self, rows: int, **options: Any) -> None:
        self.answers: list[Outputs | StatusError] = []
        self.request = Request([list(range(rows))], rows, rows, 100.0, self._done, **options)

    def _done(self, request: Request, answer: Outputs | StatusError) -> None:
        assert request is self.request
        assert request.finished, "whoever is told may rely on it"
        self.answers.append(answer)

    def deliver(self, start: int, stop: int) -> None:
        numbers = np.arange(start, stop)
        self.request.deliver(start, stop, [numbers, np.stack([numbers, -numbers], axis=1)])


def test_a_whole_answer_is_passed_on_as_it_is() -> None:
    caller = Caller(3)
    outputs = [np.arange(3)]
    caller.request.deliver(0, 3, outputs)
    assert caller.answers == [outputs]
    assert caller.answers[0] is outputs


@pytest.mark.parametrize("order", list(itertools.permutations([(0, 2), (2, 3), (3, 7)])))
def test_pieces_are_joined_in_order_whatever_the_order_they_come_in(order: list[tuple[int, int]]) -> None:
    caller = Caller(7)
    for index, (start, stop) in enumerate(order):
        assert caller.answers == [], f"not before piece {index}"
        caller.deliver(start, stop)
    [answer] = caller.answers
    assert not isinstance(answer, StatusError)
    np.testing.assert_array_equal(answer[0], np.arange(7))
    np.testing.assert_array_equal(answer[1], np.stack([np.arange(7), -np.arange(7)], axis=1))


def test_an_error_is_the_answer_and_what_comes_later_is_not() -> None:
    caller = Caller(4)
    caller.deliver(0, 2)
    caller.request.finish(FAULT)
    caller.deliver(2, 4)
    caller.request.finish(FAULT)
    assert caller.answers == [FAULT]


def test_a_closed_request_never_answers() -> None:
    caller = Caller(2)
    caller.request.close()
    caller.deliver(0, 2)
    caller.request.finish(FAULT)
    assert caller.answers == []
    assert caller.request.waiting == 0


def test_inputs_are_let_go_of_unless_a_batch_may_read_them() -> None:
    waiting, running = Caller(2).request, Caller(2).request
    running.taken = 1
    for request in (waiting, running):
        request.close()
    assert list(waiting.inputs) == []
    assert list(running.inputs) == [[0, 1]]


def test_without_a_deadline_a_call_is_due_some_seconds_after_its_arrival() -> None:
    assert Caller(1).request.due == 100.0 + DEFAULT_PATIENCE
    assert Caller(1).request.deadline == math.inf
    assert Caller(1, deadline=500.0).request.due == 500.0


def test_rows_that_left_do_not_wait() -> None:
    request = Caller(5).request
    assert request.waiting == 5
    request.taken = 3
    assert request.waiting == 2
