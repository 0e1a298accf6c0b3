"""A line between two ends: both ask, answers find their question, and an end that goes is noticed."""

import contextlib
import multiprocessing
import os
import queue
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from serving.fleet.line import Answer, Line, LineEndedError

PATIENCE = 30.0


class End:
    """One end, whose answers a test gives."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.questions: queue.SimpleQueue[tuple[str, Any, Answer]] = queue.SimpleQueue()
        self.line = Line(pipe, lambda *question: self.questions.put(question), "end")

    def hang_up(self) -> None:
        """As when its process ends; closing alone would not wake the thread that reads."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.pipe.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
        self.line.wait_until_ended()

    def asked(self) -> tuple[str, Any, Answer]:
        return self.questions.get(timeout=PATIENCE)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    ours, theirs = map(End, multiprocessing.Pipe())
    yield ours, theirs
    ours.hang_up()
    theirs.line.wait_until_ended()


def test_both_ends_ask_and_answers_come_in_any_order(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    first, second = ours.line.ask("load", "topic"), ours.line.ask("index")
    back = theirs.line.ask("metrics")
    answers = {what: answer for what, _, answer in (theirs.asked(), theirs.asked())}
    assert answers.keys() == {"load", "index"}
    answers["index"](["everything"])
    assert second.result(PATIENCE) == ["everything"]
    assert not first.done()
    answers["load"](None)
    assert first.result(PATIENCE) is None
    ours.asked()[2](7)
    assert back.result(PATIENCE) == 7


def test_who_waits_is_told_when_the_other_end_goes(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    waiting = ours.line.ask("load", "topic")
    theirs.asked()
    theirs.hang_up()
    with pytest.raises(LineEndedError):
        waiting.result(PATIENCE)
    ours.line.wait_until_ended()
    with pytest.raises(LineEndedError):
        ours.line.ask("index").result(PATIENCE)
    theirs.line.wait_until_ended()


def test_an_answer_that_nobody_waits_for_any_more_is_lost_without_harm(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    ours.line.ask("load")
    _, _, answer = theirs.asked()
    ours.hang_up()
    theirs.line.wait_until_ended()
    answer(None)
