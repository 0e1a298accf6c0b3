"""Trials on a thread of their own: asked for as often as one likes, run once, and told of when they are over."""

import queue
from pathlib import Path

import pytest

from serving.repository.disk import LoadError
from serving.repository.trials import FRESH_SECONDS, Trials

PATIENCE = 30.0
FOLDER = Path("models/topic/1")


class Bench:
    """Trials whose ends a test decides."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._ends: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.now = 0.0
        self.trials = Trials(self._run, lambda: self.now)
        self.trials.ended = lambda: self._ended.put(None)

    def _run(self, folder: Path, name: str, version: int, digest: str) -> None:
        self.ran.append(digest)
        error = self._ends.get(timeout=PATIENCE)
        if error is not None:
            raise error

    def ask(self, digest: str) -> bool:
        return self.trials(FOLDER, "topic", 1, digest)

    def end(self, error: Exception | None = None) -> None:
        self._ends.put(error)
        self._ended.get(timeout=PATIENCE)


def test_a_package_is_tried_out_once_and_nobody_waits_for_it() -> None:
    bench = Bench()
    assert [bench.ask("a") for _ in range(3)] == [False] * 3
    bench.end()
    assert [bench.ask("a") for _ in range(3)] == [True] * 3
    assert bench.ran == ["a"]


def test_one_that_fails_is_refused_whenever_it_is_asked_for() -> None:
    bench = Bench()
    bench.ask("a")
    bench.end(LoadError("checker", "no such operator"))
    for _ in range(2):
        with pytest.raises(LoadError, match="no such operator"):
            bench.ask("a")
    assert bench.ran == ["a"]


@pytest.mark.parametrize("error", [LoadError("load_error", "no memory", lasting=False), OSError("no memory")])
def test_one_that_could_not_be_judged_is_told_once_and_tried_again(error: Exception) -> None:
    bench = Bench()
    bench.ask("a")
    bench.end(error)
    with pytest.raises(LoadError, match="no memory") as caught:
        bench.ask("a")
    assert not caught.value.lasting
    assert bench.ask("a") is False
    bench.end()
    assert bench.ask("a") is True
    assert bench.ran == ["a", "a"]


def test_they_are_run_one_after_the_other() -> None:
    bench = Bench()
    assert [bench.ask(digest) for digest in "abc"] == [False] * 3
    bench.end()
    assert bench.ask("a") is True
    assert bench.ask("b") is False
    bench.end()
    bench.end()
    assert bench.ran == ["a", "b", "c"]


def test_what_nobody_waited_for_is_not_told_to_who_comes_later() -> None:
    bench = Bench()
    bench.ask("a")
    bench.end(LoadError("load_error", "no memory", lasting=False))
    bench.now += FRESH_SECONDS
    assert bench.ask("a") is False
    bench.end()
    assert bench.ask("a") is True
