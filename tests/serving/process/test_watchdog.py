"""What takes too long, by a clock that the test sets: noticed, ended, and if nothing helps the process with it."""

import threading
from collections.abc import Callable

import pytest

from serving.engine.runs import Runs
from serving.process.watchdog import EXIT_CODE, MAX_GRACE_SECONDS, Watchdog, stacks

SECONDS = 60.0


class Post:
    """A watchdog, and all that it touches."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = True
        """Does the loop turn?"""
        self.asked = 0
        self.runs = Runs()
        self.told: list[str] = []
        self.changes: list[bool] = []
        self.left: list[int] = []
        self.watchdog = Watchdog(
            SECONDS,
            self.runs,
            self._call,
            self.told.append,
            lambda: self.changes.append(self.watchdog.hung),
            clock=lambda: self.now,
            leave=self.left.append,
        )

    def _call(self, callback: Callable[[], None]) -> None:
        self.asked += 1
        if self.turns:
            callback()

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / self.watchdog.tick)):
            self.now += self.watchdog.tick
            self.watchdog.look()


@pytest.fixture
def post() -> Post:
    return Post()


def test_what_goes_on_is_left_alone(post: Post) -> None:
    for _ in range(20):
        run = post.runs.begin("a")
        post.wait(SECONDS / 2)
        post.runs.ended(run)
    assert (post.told, post.changes, post.left) == ([], [], [])
    assert not run.told
    assert post.asked > 20, "the loop is asked, again and again"


def test_a_batch_that_takes_too_long_is_ended(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    slow = post.runs.begin("slow")
    post.wait(SECONDS - 5)
    quick = post.runs.begin("quick")
    post.wait(7)
    assert (slow.told, quick.told) == (True, False)
    assert (post.told, post.changes, post.watchdog.hung) == (["batch"], [True], True)
    [record] = caplog.records
    assert (record.levelname, record.__dict__["what"]) == ("CRITICAL", "slow")
    assert any("test_watchdog.py" in line for lines in record.__dict__["threads"].values() for line in lines)
    post.runs.ended(slow)
    post.wait(2)
    assert post.changes == [True, False]
    assert not post.left


def test_what_does_not_end_ends_the_process(post: Post) -> None:
    post.runs.begin("endless")
    post.wait(SECONDS + MAX_GRACE_SECONDS - 2)
    assert not post.left
    post.wait(4)
    assert post.left[0] == EXIT_CODE


def test_a_loop_that_does_not_turn_ends_the_process(post: Post) -> None:
    post.turns = False
    post.wait(SECONDS + 2)
    assert (post.told, post.watchdog.hung, post.left) == (["loop"], True, [])
    post.wait(MAX_GRACE_SECONDS)
    assert post.left[0] == EXIT_CODE


def test_a_loop_that_turns_again_is_forgiven(post: Post) -> None:
    def late(callback: Callable[[], None]) -> None:
        kept.append(callback)

    kept: list[Callable[[], None]] = []
    post.watchdog._call = late
    post.wait(SECONDS + 2)
    assert post.changes == [True]
    kept[0]()
    post.wait(2)
    assert post.changes == [True, False]
    assert not post.left


def test_a_loop_is_not_blamed_for_a_batch(post: Post) -> None:
    """One that runs on the loop itself keeps it from turning."""
    post.turns = False
    run = post.runs.begin("inline")
    post.wait(SECONDS + 2)
    assert run.told
    assert post.told == ["batch"]
    post.runs.ended(run)
    post.turns = True
    post.wait(3)
    assert post.told == ["batch"]


def test_time_in_which_nobody_could_get_on_does_not_count(post: Post) -> None:
    """The whole process was stopped: SIGSTOP, a paused container."""
    run = post.runs.begin("a")
    post.wait(2)
    post.now += 100 * SECONDS
    post.wait(SECONDS / 2)
    assert not run.told
    assert not post.told


def test_a_closed_loop_is_the_end(post: Post) -> None:
    def closed(_: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    post.watchdog._call = closed
    post.wait(3 * SECONDS)
    assert not post.left


def test_a_log_that_hangs_keeps_no_process(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads standard error has stopped to, and the loop hangs in what it would log."""
    monkeypatch.setattr("serving.process.watchdog.SAY_SECONDS", 0.01)
    taken = threading.Event()
    monkeypatch.setattr("serving.process.watchdog.log.critical", lambda *_, **__: taken.wait(30))
    post.turns = False
    post.wait(SECONDS + MAX_GRACE_SECONDS + 4)
    taken.set()
    assert post.left[0] == EXIT_CODE


def test_where_threads_stand() -> None:
    [here] = [lines for name, lines in stacks().items() if name.startswith("MainThread")]
    assert here[-1].endswith(" stacks")
    assert here[-2].endswith("test_where_threads_stand")
