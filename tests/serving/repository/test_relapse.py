"""A version that fails while it serves: out at once, and back when a fresh session of it is sound."""

import threading
import time
from pathlib import Path
from typing import cast

import pytest

from serving.engine.device import CPU, Device
from serving.engine.engine import Runner
from serving.repository import disk, verify
from serving.repository.disk import LoadError
from serving.repository.doubt import HOLD_SECONDS, Doubt
from serving.repository.relapse import (
    FIRST_BACKOFF_SECONDS,
    LAST_BACKOFF_SECONDS,
    STALE_SECONDS,
    STEADY_SECONDS,
)
from tests.serving.packages import copy
from tests.serving.repository.stage import PRICE, Stage

REASON = "golden example 0: price[0] is nan"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    copy(tmp_path)
    copy(tmp_path, version=2)
    stage = Stage(tmp_path)
    stage.control.start()
    return stage


def fail(stage: Stage, number: int) -> None:
    [digest] = [wanted.digest for wanted in stage.control.served if wanted.version == number]
    assert digest is not None
    stage.control.failed(PRICE, number, digest, REASON)


def test_it_comes_back_from_a_fresh_session(stage: Stage) -> None:
    commits = stage.fleet.commits
    fail(stage, 2)
    assert stage.fleet.commits == commits + 2, "out, and back"
    assert stage.fleet.versions() == (1, 2)
    assert stage.fleet.routings[PRICE].default == 2


def test_until_then_those_beside_it_answer(stage: Stage) -> None:
    stage.fleet.failing.add(2)
    fail(stage, 2)
    routing = stage.fleet.routings[PRICE]
    assert (routing.versions, routing.default) == ((1,), 1)
    assert REASON in routing.reasons[2]
    [entry] = [entry for entry in stage.control.index() if entry.version == "2"]
    assert (entry.state, REASON in entry.reason) == ("UNAVAILABLE", True)


@pytest.mark.parametrize("lasting", [False, True])
def test_it_is_tried_less_and_less_often(stage: Stage, lasting: bool) -> None:
    (stage.fleet.refusing if lasting else stage.fleet.failing).add(2)
    fail(stage, 2)
    tries, backoff = 0, FIRST_BACKOFF_SECONDS
    while backoff < LAST_BACKOFF_SECONDS:
        stage.now += backoff - 0.1
        stage.fleet.refusing.clear() if lasting else stage.fleet.failing.clear()
        assert stage.control.mend(), "something is still lacking"
        assert stage.fleet.versions() == (1,), "it is not its time yet"
        (stage.fleet.refusing if lasting else stage.fleet.failing).add(2)
        stage.now += 0.2
        stage.control.mend()
        tries, backoff = tries + 1, 2 * backoff
    assert tries == 5
    stage.fleet.refusing.clear()
    stage.fleet.failing.clear()
    stage.now += LAST_BACKOFF_SECONDS + 1
    assert not stage.control.mend()
    assert stage.fleet.versions() == (1, 2)


def test_what_other_workers_say_of_the_same_fault_does_not_take_the_fresh_session_out(stage: Stage) -> None:
    commits = stage.fleet.commits
    for _ in range(5):
        fail(stage, 2)
        stage.now += STALE_SECONDS / 10
    assert stage.fleet.commits == commits + 2, "out, and back"
    assert stage.fleet.versions() == (1, 2)


def test_one_that_loads_and_fails_again_and_again_waits_longer_and_longer(stage: Stage) -> None:
    fail(stage, 2)
    backoff = FIRST_BACKOFF_SECONDS
    for _ in range(3):
        stage.now += STALE_SECONDS + 1
        fail(stage, 2)
        assert stage.fleet.versions() == (1,), "not at once, this time"
        stage.now += backoff - 0.1
        stage.control.mend()
        assert stage.fleet.versions() == (1,)
        stage.now += 0.2
        stage.control.mend()
        assert stage.fleet.versions() == (1, 2)
        backoff *= 2
    stage.now += STEADY_SECONDS
    fail(stage, 2)
    assert stage.fleet.versions() == (1, 2), "it was steady for long: that is another fault"


def test_what_some_prepared_is_let_go_where_another_refuses(stage: Stage) -> None:
    stage.fleet.refusing.add(2)
    commits = stage.fleet.commits
    fail(stage, 2)
    assert stage.fleet.commits == commits + 2, "out, and nothing kept of the attempt"
    assert stage.fleet.versions() == (1,)


def test_looks_at_the_folder_do_not_bring_it_back(stage: Stage) -> None:
    stage.fleet.failing.add(2)
    fail(stage, 2)
    stage.fleet.failing.clear()
    for _ in range(3):
        stage.control.look()
    assert stage.fleet.versions() == (1,)


def test_one_that_was_removed_meanwhile_is_forgotten(stage: Stage) -> None:
    stage.fleet.failing.add(2)
    fail(stage, 2)
    (stage.folder / PRICE / "2").rename(stage.folder / "aside")
    for _ in range(3):
        stage.control.look()
    stage.fleet.failing.clear()
    stage.now += FIRST_BACKOFF_SECONDS + 1
    assert not stage.control.mend()
    assert stage.fleet.versions() == (1,)


def test_word_of_another_package_comes_too_late(stage: Stage) -> None:
    stage.control.failed(PRICE, 2, "0" * 64, REASON)
    stage.control.failed(PRICE, 7, "0" * 64, REASON)
    stage.control.failed("nobody", 1, "0" * 64, REASON)
    assert stage.fleet.versions() == (1, 2)
    assert not stage.control.mend()


def test_want_of_a_thread_disturbs_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Who doubts has callers to answer, whose batch has just failed."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    Doubt(cast("list[Runner]", None), lambda _: pytest.fail("nothing was found out"))()
    assert "no thread" in caplog.text


def test_doubt_is_answered_by_the_golden_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = disk.read(tmp_path, copy(tmp_path), PRICE, 1)
    runner = verify.load(package, Device(CPU), 1).runner
    now, reasons = 100.0, list[str]()
    doubt = Doubt([runner], reasons.append, lambda: now)
    checks = list[bool]()
    check = doubt._check
    monkeypatch.setattr(doubt, "_check", lambda: (check(), checks.append(True)))

    def ask(more: int) -> None:
        wanted = len(checks) + more
        doubt()
        deadline = time.monotonic() + 30
        while len(checks) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    ask(1)
    ask(0)
    assert (checks, reasons) == ([True], []), "what holds is not looked at again at once"
    now += HOLD_SECONDS

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA failure 700")

    monkeypatch.setattr(runner.session, "run", broken)
    ask(1)
    assert reasons == ["it can't compute its golden examples any more: CUDA failure 700"]
    ask(0)
    assert len(reasons) == 1, "it is not said again at once"
    now += HOLD_SECONDS
    ask(1)
    assert len(reasons) == 2, "the first time, it may have been taken for word of another session"
    with pytest.raises(LoadError, match="any more"):
        verify.reproduce(runner)
