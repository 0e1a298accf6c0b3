"""The thread of control: one thing at a time, in order, and nothing ends it but the end."""

import queue
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from serving.repository import watch
from serving.repository.control import Control
from serving.repository.later import NotYetError
from serving.repository.state import Model
from serving.repository.watch import Watch
from serving.status import Code, StatusError

PATIENCE = 30.0


class Scripted:
    """Stands for control: notes what is done to it."""

    def __init__(self, untried: int = 0, look: Callable[[], None] = lambda: None) -> None:
        self.did: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.untried = untried
        self._look = look

    def look(self) -> None:
        self.did.put("look")
        self._look()

    def try_out(self) -> bool:
        self.did.put("try out")
        self.untried -= 1
        return self.untried >= 0

    def hear(self) -> None:
        self.did.put("hear")

    def mend(self) -> bool:
        return False

    def next(self) -> str:
        return self.did.get(timeout=PATIENCE)


def ask(watched: Watch, work: Callable[[Control], Any]) -> Any:
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watched.ask(work, answer.put)
    return answer.get(timeout=PATIENCE)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TRY_OUT_SECONDS", 0.0)


def test_it_answers_with_what_came_of_it() -> None:
    scripted = Scripted()
    watched = Watch(cast("Control", scripted))
    assert ask(watched, lambda control: control is scripted)
    error = ask(watched, lambda control: 1 / 0)
    assert isinstance(error, ZeroDivisionError)
    assert ask(watched, lambda _: threading.current_thread().name) == watch.THREAD
    watched.stop()


@pytest.mark.usefixtures("hurry")
def test_after_the_start_everything_is_tried_out_once() -> None:
    scripted = Scripted(untried=2)
    watched = Watch(cast("Control", scripted))
    ask(watched, lambda _: None)
    assert [scripted.next() for _ in range(3)] == ["try out"] * 3
    assert scripted.did.empty()
    watched.stop()


def test_it_looks_again_and_again_once_started() -> None:
    scripted = Scripted()
    watched = Watch(cast("Control", scripted), poll_seconds=0.001)
    assert scripted.did.empty(), "before the start there is nothing to look at"
    ask(watched, lambda _: None)
    assert [scripted.next() for _ in range(3)] == ["look"] * 3
    watched.stop()


def test_a_look_that_fails_is_logged_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    scripted = Scripted(look=fail)
    watched = Watch(cast("Control", scripted), poll_seconds=0.001)
    ask(watched, lambda _: None)
    assert [scripted.next() for _ in range(2)] == ["look"] * 2
    watched.stop()
    assert "could not be looked at" in caplog.text


def test_what_depends_on_a_trial_is_answered_when_it_is_over() -> None:
    scripted = Scripted()
    watched = Watch(cast("Control", scripted))
    ask(watched, lambda _: None)
    tries = iter([NotYetError(Model()), NotYetError(Model()), None])
    tried: queue.SimpleQueue[None] = queue.SimpleQueue()

    def load(_: Control) -> str:
        tried.put(None)
        if (error := next(tries)) is not None:
            raise error
        return "loaded"

    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watched.ask(load, answer.put)
    for _ in range(2):
        tried.get(timeout=PATIENCE)
        assert answer.empty()
        watched.trial_ended()
    assert answer.get(timeout=PATIENCE) == "loaded"
    watched.stop()


def test_who_asks_or_waits_at_the_end_is_told_that_it_is() -> None:
    def not_yet(_: Control) -> None:
        raise NotYetError(Model())

    watched = Watch(cast("Control", Scripted()))
    ask(watched, lambda _: None)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watched.ask(not_yet, answers.put)
    watched.stop()
    watched.ask(lambda _: None, answers.put)
    for _ in range(2):
        error = answers.get(timeout=PATIENCE)
        assert isinstance(error, StatusError)
        assert error.code is Code.UNAVAILABLE


def test_the_end_of_a_trial_is_heard_of() -> None:
    scripted = Scripted()
    watched = Watch(cast("Control", scripted), poll_seconds=1000.0)
    ask(watched, lambda _: None)
    watched.trial_ended()
    assert [scripted.next(), scripted.next()] == ["hear", "try out"]
    watched.stop()
