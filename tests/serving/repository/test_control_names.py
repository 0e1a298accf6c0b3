"""Which versions are served, by what names, and which one answers by default."""

from pathlib import Path

import pytest

from serving.repository.routing import Routing
from tests.serving.repository.stage import PRICE, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add(1)
    return stage


def test_the_latest_are_those_that_verify(tmp_path: Path) -> None:
    stage = Stage(tmp_path, versions="latest:2")
    stage.add(1, 2, 3, 4)
    stage.fleet.refusing.add(4)
    stage.control.start()
    assert stage.routing() == Routing(versions=(2, 3), default=3, reasons={4: "its answers are wrong"})
    assert stage.fleet.prepared == [(PRICE, 3), (PRICE, 2)], "no more than are served"
    stage.add(5)
    stage.look()
    assert stage.fleet.versions() == (3, 5)
    stage.remove(PRICE, "5")
    stage.look()
    assert stage.fleet.versions() == (2, 3)


def test_specific_versions_and_those_with_a_label_are_served(stage: Stage) -> None:
    stage.add(2, 3, 4)
    stage.policy("versions = [1]\n[labels]\nstable = 1\ncanary = 3\n")
    stage.control.start()
    assert stage.routing() == Routing(versions=(1, 3), default=1, labels={"stable": 1, "canary": 3})


def test_a_label_moves_with_its_file(stage: Stage) -> None:
    stage.add(2)
    stage.policy("[labels]\nstable = 1\n")
    stage.control.start()
    assert stage.routing().default == 1
    stage.policy("[labels]\nstable = 2\n")
    stage.look(1)
    assert stage.routing().default == 1, "it may still be written"
    stage.look(1)
    assert (stage.routing().default, stage.routing().labels) == (2, {"stable": 2})
    assert len(stage.fleet.prepared) == 2, "nothing is loaded for that"


def test_a_label_stays_where_it_was_until_what_it_should_mean_is_there(stage: Stage) -> None:
    stage.policy("[labels]\nstable = 1\n")
    stage.control.start()
    stage.policy("[labels]\nstable = 2\n")
    stage.look()
    assert stage.routing().default == 1
    stage.add(2)
    stage.look()
    assert (stage.routing().default, stage.routing().versions) == (2, (1, 2))


def test_a_label_that_waits_is_said_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.policy("[labels]\nstable = 7\ncanary = 1\n")
    stage.control.start()
    stage.look(3)
    [record] = [vars(record) for record in caplog.records if record.message == "label waits for its version"]
    assert (record["label"], record["wants"], record["stays"]) == ("stable", 7, None)
    assert stage.routing().note == "label stable names version 7, which is not served"
    assert stage.control.failures == [f"{PRICE} label stable names version 7, which is not served"]


def test_a_stable_version_that_never_was_there_is_not_another_one(stage: Stage) -> None:
    stage.policy("[labels]\nstable = 7\n")
    stage.control.start()
    assert (stage.routing().versions, stage.routing().default) == ((1,), None)


def test_a_version_keeps_its_names_until_another_is_there_to_have_them(tmp_path: Path) -> None:
    stage = Stage(tmp_path, versions="latest:1")
    stage.add(1, 2)
    stage.policy("[labels]\nstable = 1\ncanary = 2\n")
    stage.control.start()
    stage.policy("[labels]\nstable = 3\ncanary = 2\n")
    stage.look(4)
    assert (stage.routing().versions, stage.routing().default) == ((1, 2), 1)
    assert stage.routing().labels == {"stable": 1, "canary": 2}
    stage.add(3)
    stage.look()
    assert (stage.routing().versions, stage.routing().default) == ((2, 3), 3)


def test_a_new_stable_version_that_is_bad_leaves_the_one_before(stage: Stage) -> None:
    stage.policy("versions = [1]\n[labels]\nstable = 1\n")
    stage.control.start()
    stage.fleet.refusing.add(2)
    stage.add(2, 3)
    stage.policy("versions = [2, 3]\n[labels]\nstable = 2\n")
    stage.look(4)
    assert (stage.routing().versions, stage.routing().default) == ((1, 3), 1)


def test_the_first_label_waits_for_its_version_too(stage: Stage) -> None:
    stage.control.start()
    stage.policy("[labels]\nstable = 2\n")
    stage.look(4)
    assert (stage.routing().versions, stage.routing().default) == ((1,), 1)
    stage.add(2)
    stage.look()
    assert stage.routing().default == 2


def test_a_stable_version_that_is_removed_is_not_replaced_by_another(stage: Stage) -> None:
    stage.add(2)
    stage.policy("[labels]\nstable = 1\n")
    stage.control.start()
    stage.remove(PRICE, "1")
    stage.look()
    assert (stage.routing().versions, stage.routing().default) == ((2,), None)


def test_a_policy_that_breaks_leaves_the_one_before(stage: Stage) -> None:
    stage.add(2)
    stage.policy("[labels]\nstable = 1\n")
    stage.control.start()
    stage.policy("[labels]\nstable = \n")
    stage.look(3)
    assert stage.routing().default == 1
    assert "serving.toml" in stage.control.failures[0]
    stage.policy("[labels]\nstable = 2\n")
    stage.look()
    assert stage.routing().default == 2
    assert stage.control.failures == []


def test_a_model_whose_policy_is_broken_from_the_start_is_not_served(stage: Stage) -> None:
    stage.policy("stable = 1\n")
    stage.control.start()
    assert (stage.routing().versions, stage.routing().default, stage.routing().needed) == ((), None, True)
    assert "unknown field `stable`" in stage.routing().note
    [entry] = stage.control.index()
    assert (entry.name, entry.version, entry.state) == (PRICE, "", "UNAVAILABLE")
    assert "unknown field `stable`" in entry.reason


def test_a_candidate_is_served_by_number_and_never_by_default(stage: Stage) -> None:
    stage.add(2)
    stage.policy("[shadow]\ncandidate = 2\nfraction = 0.5\n")
    stage.control.start()
    assert stage.routing() == Routing(versions=(1, 2), default=1, candidate=2, fraction=0.5)
    stage.remove(PRICE, "1")
    stage.look()
    assert stage.routing().default is None
