"""Trials and passing failures: nobody waits for them, and what fails for no fault of its own is tried again."""

from pathlib import Path

import pytest

from serving.repository import disk
from serving.repository.loader import RETRY_SECONDS
from serving.repository.routing import Routing
from serving.repository.state import Entry
from tests.serving.packages import value
from tests.serving.repository.stage import PRICE, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add(1)
    return stage


def test_what_the_start_did_not_wait_for_is_tried_out_later(stage: Stage) -> None:
    stage.add(2)
    stage.control.start()
    while stage.control.try_out():
        pass
    assert sorted(stage.tried) == [1, 2]
    assert not stage.control.try_out()
    assert len(stage.tried) == 2


def test_a_version_that_fails_its_trial_after_the_start_is_served_no_more(stage: Stage) -> None:
    stage.add(2)
    stage.unfit.add(2)
    stage.control.start()
    while stage.control.try_out():
        pass
    assert stage.routing() == Routing(versions=(1,), default=1, reasons={2: "no such operator"})
    assert stage.loads("checker") == 1
    assert value(stage.metrics, "triptych_model_ready", model=PRICE, version="2") == 0


def test_a_new_version_is_tried_out_and_served_once_it_stays_as_it_is(stage: Stage) -> None:
    stage.control.start()
    stage.add(2)
    stage.look(1)
    assert stage.fleet.versions() == (1,), "it may still be written"
    stage.look(1)
    assert stage.routing() == Routing(versions=(1, 2), default=2)
    assert stage.tried == [2]
    stage.look(5)
    assert stage.fleet.commits == 2, "nothing more has changed"
    assert stage.fleet.prepared == [(PRICE, 1), (PRICE, 2)]


def test_the_end_of_a_trial_is_no_look(stage: Stage) -> None:
    """Whoever removes a folder and puts it back has one interval for it, whatever ends meanwhile."""
    stage.add(1, name="topic")
    stage.control.start()
    stage.under_way.add(2)
    stage.add(2)
    stage.look()
    stage.remove("topic")
    stage.look(1)
    stage.under_way.clear()
    stage.control.hear()
    assert stage.routing().default == 2
    assert stage.routing("topic").default == 1


def test_what_waits_for_its_trial_is_read_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.control.start()
    stage.under_way.add(2)
    stage.add(2)
    reads = []
    read = disk.read
    monkeypatch.setattr(disk, "read", lambda *arguments: reads.append(arguments) or read(*arguments))
    stage.look(6)
    assert len(reads) == 1


def test_what_a_worker_lacks_is_mended(stage: Stage) -> None:
    stage.control.start()
    assert not stage.control.mend()
    stage.fleet.lacking[PRICE, 1] = "it was not there"
    assert stage.control.index() == [Entry(PRICE, "1", "READY", "some workers lack it: it was not there")]
    stage.fleet.failing.add(1)
    assert stage.control.mend(), "not yet"
    stage.fleet.failing.clear()
    before = stage.fleet.commits
    assert not stage.control.mend()
    assert stage.fleet.commits == before + 1


def test_a_trial_under_way_keeps_no_other_model_waiting(stage: Stage) -> None:
    stage.control.start()
    stage.under_way.add(2)
    stage.add(2)
    stage.add(1, name="topic")
    stage.look()
    assert stage.routing("topic").default == 1
    assert stage.routing() == Routing(versions=(1,), default=1)
    stage.under_way.clear()
    stage.look(1)
    assert stage.routing().default == 2


def test_what_is_not_the_packages_fault_is_tried_again_later(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.control.start()
    stage.fleet.failing.add(2)
    stage.add(2)
    stage.look(4)
    assert stage.routing().reasons == {2: "there is no memory just now"}
    assert stage.loads("load_error") == 0, "nothing was found wrong with it"
    assert [record.message for record in caplog.records].count("model not loaded yet") == 1
    stage.fleet.failing.clear()
    stage.look()
    assert stage.fleet.versions() == (1,), "not at once again"
    stage.now += RETRY_SECONDS
    stage.look(1)
    assert stage.routing() == Routing(versions=(1, 2), default=2)


def test_a_served_version_that_could_not_be_tried_out_is_served_on(stage: Stage) -> None:
    stage.control.start()
    stage.starving.add(1)
    assert stage.control.try_out(), "it is still to be tried"
    assert stage.routing().default == 1
    stage.starving.clear()
    stage.control.try_out()
    assert stage.tried == [], "not at once again"
    stage.now += RETRY_SECONDS
    assert not stage.control.try_out()
    assert stage.tried == [1]
