"""Control: what is served follows the folder, one look after the other, whatever lies in it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.metrics import Metrics
from serving.repository import disk
from serving.repository.control import RETRY_SECONDS, Control, Mode
from serving.repository.disk import LoadError, RepositoryError
from serving.repository.later import NotYetError, loading
from serving.repository.routing import Routing, Wanted
from serving.repository.state import Entry
from serving.repository.version import Prepared
from serving.status import Code, StatusError
from tests.serving.packages import controlled, copy, edit, value

PRICE = "house_price"


class Fleet:
    """Those who would serve: reads packages, verifies nothing, and remembers what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepared: list[tuple[str, int]] = []
        self.routings: dict[str, Routing] = {}
        self.commits = 0
        self.refusing: set[int] = set()
        self.failing: set[int] = set()
        """For reasons that are not theirs."""
        self.lacking: dict[tuple[str, int], str] = {}
        self._digests: dict[tuple[str, int], str] = {}

    def prepare(self, wanted: Wanted) -> Prepared:
        key = (wanted.name, wanted.version)
        package = disk.read(self.folder, Path(wanted.folder), *key)
        if wanted.version in self.refusing:
            raise LoadError("golden", "its answers are wrong")
        if wanted.version in self.failing:
            raise LoadError("load_error", "there is no memory just now", lasting=False)
        fresh = self._digests.get(key) != package.digest
        self._digests[key] = package.digest
        self.prepared += [key] if fresh else []
        self.lacking.pop(key, None)
        return Prepared(package.digest, fresh)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        self.commits += 1
        for name, routing in routings.items():
            if routing is None:
                del self.routings[name]
            else:
                self.routings[name] = routing

    def versions(self, name: str = PRICE) -> tuple[int, ...]:
        return self.routings[name].versions


class Stage:
    """A folder, its control, and the fleet that it has."""

    def __init__(self, folder: Path, mode: Mode = "poll", versions: str = "all") -> None:
        self.folder = folder
        self.fleet = Fleet(folder)
        self.metrics = Metrics()
        self.tried: list[int] = []
        self.unfit: set[int] = set()
        self.under_way: set[int] = set()
        self.now = 0.0
        self.control = Control(
            folder,
            self.fleet,
            self.metrics,
            mode=mode,
            versions=versions,
            try_out=self._try_out,
            clock=lambda: self.now,
        )

    def _try_out(self, folder: Path, name: str, version: int, digest: str) -> bool:
        self.tried.append(version)
        if version in self.under_way:
            return False
        if version in self.unfit:
            raise LoadError("checker", "no such operator")
        return True

    def add(self, *versions: int, name: str = PRICE) -> None:
        for version in versions:
            copy(self.folder, name, version)

    def policy(self, text: str) -> None:
        (self.folder / PRICE / "serving.toml").write_text(text)

    def remove(self, *parts: str) -> None:
        shutil.rmtree(self.folder.joinpath(*parts))

    def look(self, times: int = 2) -> None:
        """Twice, by default: once to see it, and once to see that it stays so."""
        for _ in range(times):
            self.control.look()

    def routing(self, name: str = PRICE) -> Routing:
        return self.fleet.routings[name]

    def loads(self, outcome: str) -> float:
        return value(self.metrics, "triptych_model_loads_total", model=PRICE, outcome=outcome) or 0


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add(1)
    return stage


def damage(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


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


def explicit(folder: Path, *names: str) -> Stage:
    stage = Stage(folder, mode="explicit")
    stage.add(1)
    stage.add(1, name="topic")
    stage.control.start(names)
    return stage


def test_by_request_only_what_is_named_is_served_from_the_start(tmp_path: Path) -> None:
    stage = explicit(tmp_path, "topic")
    assert stage.routing("topic").versions == (1,)
    assert stage.routing() == Routing(needed=False)
    assert Entry(PRICE, "", "UNAVAILABLE", "not loaded") in stage.control.index()


def test_by_request_a_model_that_is_not_there_can_not_be_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="weather not in"):
        explicit(tmp_path, "weather")


def test_a_model_is_loaded_and_unloaded_by_request(tmp_path: Path) -> None:
    stage = explicit(tmp_path)
    stage.control.load(PRICE)
    assert stage.routing() == Routing(versions=(1,), default=1)
    stage.add(2)
    stage.control.load(PRICE)
    assert stage.routing() == Routing(versions=(1, 2), default=2)
    stage.remove(PRICE, "1")
    stage.control.load(PRICE)
    assert stage.routing() == Routing(versions=(2,), default=2)
    stage.control.unload(PRICE)
    assert stage.routing() == Routing(needed=False)
    assert value(stage.metrics, "triptych_model_ready", model=PRICE, version="2") is None
    stage.control.load(PRICE)
    assert stage.routing().default == 2


def test_a_request_is_told_what_could_not_be_served_and_may_try_again(tmp_path: Path) -> None:
    stage = explicit(tmp_path, PRICE)
    stage.add(2)
    stage.fleet.refusing.add(2)
    for _ in range(2):
        with pytest.raises(StatusError, match="model house_price: version 2: its answers are wrong") as caught:
            stage.control.load(PRICE)
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert stage.fleet.versions() == (1,)
    stage.fleet.refusing.clear()
    stage.control.load(PRICE)
    assert stage.fleet.versions() == (1, 2)


def test_requests_for_what_is_not_there_are_not_found(tmp_path: Path) -> None:
    stage = explicit(tmp_path)
    for ask in (stage.control.load, stage.control.unload):
        with pytest.raises(StatusError) as caught:
            ask("weather")
        assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_elsewhere_nothing_is_loaded_by_request(tmp_path: Path, mode: Mode) -> None:
    stage = Stage(tmp_path, mode=mode)
    stage.add(1)
    stage.control.start()
    for ask in (stage.control.load, stage.control.unload):
        with pytest.raises(StatusError, match=f"--model-control is {mode}, not explicit") as caught:
            ask(PRICE)
        assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_version_that_was_replaced_and_failed_once_gets_its_chance_too(tmp_path: Path) -> None:
    stage = explicit(tmp_path, PRICE)
    edit(stage.folder / PRICE / "1", lambda manifest: manifest["metrics"].update(note="another"))
    stage.unfit.add(1)
    with pytest.raises(StatusError, match="no such operator"):
        stage.control.load(PRICE)
    assert stage.routing().default == 1
    stage.unfit.clear()
    stage.control.load(PRICE)
    assert stage.fleet.prepared == [(PRICE, 1), (PRICE, 1)]
    assert stage.control.failures == []


def test_a_removed_version_leaves_no_metric_behind(tmp_path: Path) -> None:
    stage = explicit(tmp_path, PRICE)
    stage.add(2, 3)
    stage.fleet.refusing.add(3)
    with pytest.raises(StatusError):
        stage.control.load(PRICE)
    assert value(stage.metrics, "triptych_model_ready", model=PRICE, version="3") == 0
    stage.remove(PRICE, "2")
    stage.remove(PRICE, "3")
    stage.control.load(PRICE)
    for version in ("2", "3"):
        assert value(stage.metrics, "triptych_model_ready", model=PRICE, version=version) is None


def test_nobody_waits_for_a_trial_but_who_asked_for_the_model(tmp_path: Path) -> None:
    stage = explicit(tmp_path)
    stage.under_way.add(1)
    ask = loading(PRICE)
    for _ in range(3):
        with pytest.raises(NotYetError):
            ask(stage.control)
    stage.under_way.clear()
    ask(stage.control)
    assert stage.routing().default == 1


def test_a_load_that_waits_does_not_undo_an_unload(tmp_path: Path) -> None:
    stage = explicit(tmp_path)
    stage.under_way.add(1)
    ask = loading(PRICE)
    with pytest.raises(NotYetError):
        ask(stage.control)
    stage.control.unload(PRICE)
    stage.under_way.clear()
    with pytest.raises(StatusError, match="it was unloaded, or removed, meanwhile"):
        ask(stage.control)
    assert stage.routing() == Routing(needed=False)


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

    def no_memory(*_: object) -> bool:
        raise LoadError("load_error", "its trial could not be started", lasting=False)

    stage.control._try_out = no_memory
    assert stage.control.try_out(), "it is still to be tried"
    assert stage.routing().default == 1
    stage.control._try_out = stage._try_out
    stage.control.try_out()
    assert stage.tried == [], "not at once again"
    stage.now += RETRY_SECONDS
    assert not stage.control.try_out()
    assert stage.tried == [1]


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
