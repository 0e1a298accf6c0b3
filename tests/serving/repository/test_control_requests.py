"""Models that are loaded and unloaded by request."""

from pathlib import Path

import pytest

from serving.repository.control import Mode
from serving.repository.disk import RepositoryError
from serving.repository.later import NotYetError, loading
from serving.repository.routing import Routing
from serving.repository.state import Entry
from serving.status import Code, StatusError
from tests.serving.packages import edit, value
from tests.serving.repository.stage import PRICE, Stage, explicit


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add(1)
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
