"""Control: what is served follows the folder, one look after the other, whatever lies in it."""

import shutil
from pathlib import Path

import pytest

from serving.repository import disk
from serving.repository.disk import RepositoryError
from serving.repository.routing import Routing
from serving.repository.state import Entry
from tests.serving.packages import controlled, copy, edit, value
from tests.serving.repository.stage import PRICE, Fleet, Stage, damage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add(1)
    return stage


def test_the_start_serves_what_is_there_in_one_commit(stage: Stage) -> None:
    stage.add(3, 10)
    stage.add(1, name="topic")
    stage.control.start()
    assert stage.fleet.commits == 1
    assert stage.routing() == Routing(versions=(1, 3, 10), default=10)
    assert stage.routing("topic") == Routing(versions=(1,), default=1)
    assert stage.tried == [], "the start does not wait for that"
    assert stage.loads("ready") == 3
    assert value(stage.metrics, "triptych_model_ready", model=PRICE, version="10") == 1


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no model package"):
        Stage(tmp_path).control.start()


def test_a_half_copied_version_is_looked_at_again_until_it_is_whole(stage: Stage) -> None:
    stage.control.start()
    stage.add(2)
    folder = stage.folder / PRICE / "2"
    whole = (folder / "model.onnx").read_bytes()
    for size in (0, 1000, 2000):  # it grows from look to look
        (folder / "model.onnx").write_bytes(whole[:size])
        stage.look(1)
    assert stage.loads("checksum") == 0
    stage.look()  # the copy stalls
    assert stage.fleet.versions() == (1,)
    assert "model.onnx has 2000 bytes" in stage.routing().reasons[2]
    stage.look(3)
    assert stage.loads("checksum") == 1, "the same is not tried twice"
    (folder / "model.onnx").write_bytes(whole)
    stage.look()
    assert stage.routing() == Routing(versions=(1, 2), default=2)


@pytest.mark.parametrize("how", ["altered", "refused", "unfit"])
def test_a_bad_new_version_changes_nothing_for_the_old_one(stage: Stage, how: str) -> None:
    stage.control.start()
    stage.add(2)
    if how == "altered":
        damage(stage.folder / PRICE / "2")
    (stage.fleet.refusing if how == "refused" else stage.unfit if how == "unfit" else set()).add(2)
    stage.look()
    reason = {
        "altered": "the SHA-256 of model.onnx is not the one in its manifest",
        "refused": "its answers are wrong",
        "unfit": "no such operator",
    }[how]
    assert stage.routing() == Routing(versions=(1,), default=1, reasons={2: reason})
    assert Entry(PRICE, "2", "UNAVAILABLE", reason) in stage.control.index()
    assert Entry(PRICE, "1", "READY", "") in stage.control.index()
    assert stage.control.failures == [f"{PRICE} version 2: {reason}"]
    assert stage.loads({"altered": "checksum", "refused": "golden", "unfit": "checker"}[how]) == 1


def test_a_version_that_is_replaced_in_place_is_loaded_anew(stage: Stage) -> None:
    stage.control.start()
    before = stage.control.served
    edit(stage.folder / PRICE / "1", lambda manifest: manifest["metrics"].update(note="another"))
    stage.look()
    assert stage.fleet.prepared == [(PRICE, 1), (PRICE, 1)]
    assert stage.fleet.commits == 2
    assert stage.control.served != before


def test_a_version_that_is_touched_is_not(stage: Stage) -> None:
    stage.control.start()
    (stage.folder / PRICE / "1" / "model.json").touch()
    stage.look(3)
    assert (stage.fleet.commits, stage.tried) == (1, [])


def test_a_served_version_that_is_damaged_on_disk_goes_on_from_memory(stage: Stage) -> None:
    stage.control.start()
    damage(stage.folder / PRICE / "1")
    stage.look(3)
    assert stage.fleet.versions() == (1,)
    [entry] = stage.control.index()
    assert entry.state == "READY"
    assert "SHA-256" in entry.reason
    assert stage.loads("checksum") == 1


def test_a_removed_version_is_unloaded_once_it_stays_away(stage: Stage) -> None:
    stage.add(2)
    stage.control.start()
    stage.remove(PRICE, "2")
    stage.look(1)
    assert stage.fleet.versions() == (1, 2), "it may be on its way back"
    stage.look(1)
    assert stage.routing() == Routing(versions=(1,), default=1)
    assert value(stage.metrics, "triptych_model_ready", model=PRICE, version="2") is None


def test_a_removed_model_is_gone(stage: Stage) -> None:
    stage.add(1, name="topic")
    stage.control.start()
    stage.remove("topic")
    stage.look()
    assert stage.fleet.routings.keys() == {PRICE}
    stage.look()
    assert [entry.name for entry in stage.control.index()] == [PRICE]


def test_a_folder_that_is_gone_takes_no_model_with_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.control.start()
    shutil.rmtree(stage.folder)
    stage.look(5)
    assert stage.fleet.versions() == (1,)
    assert [record.message for record in caplog.records].count("repository problem") == 1, "said once"


def test_a_new_model_is_served_and_is_needed_only_then(stage: Stage) -> None:
    stage.control.start()
    stage.add(1, name="topic")
    damage(stage.folder / "topic" / "1")
    stage.look()
    assert stage.routing("topic").needed is False, "somebody's broken upload must not take the server out of service"
    stage.remove("topic")
    stage.look()
    stage.add(1, name="topic")
    stage.look()
    assert stage.routing("topic") == Routing(versions=(1,), default=1, needed=True)


def test_what_can_not_be_read_is_not_gone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add(1, name="topic")
    stage.control.start()
    scan = disk.scan

    def scan_without_topic(models: Path) -> disk.Found:
        found = scan(models)
        found.pop("topic")
        found.problems["topic"] = "permission denied"
        return found

    monkeypatch.setattr(disk, "scan", scan_without_topic)
    stage.add(2)
    stage.look(3)
    assert stage.routing().default == 2
    assert stage.routing("topic").default == 1
    assert stage.control.failures == ["topic permission denied"]
    monkeypatch.undo()
    stage.look()
    assert stage.control.failures == []


def test_a_model_that_can_not_be_read_from_the_start_keeps_no_other_from_being_served(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = disk.Found(disk.scan(stage.folder), {"topic": "permission denied"})
    monkeypatch.setattr(disk, "scan", lambda _: found)
    stage.control.start()
    assert stage.routing().default == 1
    assert stage.routing("topic") == Routing(needed=True)


def test_who_joins_later_is_told_what_to_load(stage: Stage) -> None:
    stage.add(2)
    stage.control.start()
    assert [(wanted.name, wanted.version) for wanted in stage.control.served] == [(PRICE, 1), (PRICE, 2)]
    assert all(wanted.digest for wanted in stage.control.served)
    assert stage.control.routings == stage.fleet.routings


def test_the_helper_of_other_tests_is_what_it_seems(tmp_path: Path) -> None:
    copy(tmp_path)
    fleet = Fleet(tmp_path)
    controlled(fleet, tmp_path).start()
    assert fleet.versions() == (1,)
