"""All models of a folder: the good are served, the bad reported, and a request finds its version."""

import logging
import shutil
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from serving.engine.device import CPU
from serving.engine.request import Request
from serving.repository.disk import LoadError, RepositoryError
from serving.repository.models import Models
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Version
from serving.status import Code, StatusError
from serving.telemetry.metrics import LOAD_OUTCOMES, Metrics
from tests.serving import packages
from tests.serving.packages import (
    change_graph,
    controlled,
    copy,
    double_prices,
    edit,
    new_models,
    open_models,
    replace_model,
    value,
)

pytestmark = pytest.mark.asyncio


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def add_input(folder: Path) -> None:
    bias = onnx.helper.make_tensor_value_info("bias", onnx.TensorProto.FLOAT, ["N"])
    change_graph(folder, lambda graph: graph.input.append(bias))


def raise_prices(folder: Path) -> None:
    edit(folder, lambda m: m["golden"]["outputs"].update(price=[[p + 1e-2] for [p] in m["golden"]["outputs"]["price"]]))


def break_contract(folder: Path) -> None:
    edit(folder, lambda m: m["inputs"][0].update(shape=[-1, 12]))


def replace_by_text(folder: Path) -> None:
    replace_model(folder, b"not ONNX")


def lose_manifest(folder: Path) -> None:
    (folder / "model.json").unlink()


DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (flip, "checksum", "SHA-256 of model.onnx"),
    (add_input, "signature", "input bias: the manifest implies none"),
    (raise_prices, "golden", "golden example 0: price"),
    (break_contract, "signature", "the typed API can't serve it: it must have one input, FP32 [-1, 13]"),
    (replace_by_text, "load_error", "can't load it"),
    (lose_manifest, "load_error", "model.json: No such file or directory"),
]


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def refused(models: Models, name: str, version: str = "") -> StatusError:
    with pytest.raises(StatusError) as caught:
        models.resolve(name, version)
    return caught.value


async def test_the_shipped_models_load_with_metrics_and_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    models = open_models(packages.SHIPPED, metrics)
    assert models.ready == dict.fromkeys(packages.NAMES, True)
    tasks = ("regression", "binary-classification", "multiclass-classification")
    for name, task in zip(packages.NAMES, tasks, strict=True):
        assert models.resolve(name, "").label == "2", "the highest answers"
        for version in ("1", "2"):
            assert value(metrics, "triptych_model_info", model=name, version=version, provider=CPU, task=task) == 1
            assert value(metrics, "triptych_model_ready", model=name, version=version) == 1
        assert value(metrics, "triptych_queue_rows", model=name) == 0
        assert value(metrics, "triptych_rejected_total", model=name, reason="queue_full") == 0
        for outcome in LOAD_OUTCOMES:
            loads = value(metrics, "triptych_model_loads_total", model=name, outcome=outcome)
            assert loads == (2 if outcome == "ready" else 0)
    told = [vars(record) for record in caplog.records if record.message == "model ready"]
    assert sorted((record["model"], record["version"]) for record in told) == packages.EVERY
    await models.close()


@pytest.mark.parametrize(("damage", "outcome", "reason"), DAMAGES)
async def test_a_damaged_package_is_reported_and_the_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], outcome: str, reason: str
) -> None:
    copy(tmp_path, "sentiment")
    damage(copy(tmp_path, "house_price"))
    metrics = Metrics()
    models = new_models(tmp_path, metrics)
    control = controlled(models, tmp_path, metrics)
    control.start()

    assert models.ready == {"house_price": False, "sentiment": True}
    assert models.all_ready is False
    [failure] = control.failures
    assert failure.startswith("house_price version 1: ")
    assert reason in failure
    assert models.resolve("sentiment", "").label == "1"
    error = refused(models, "house_price")
    assert error.code is Code.UNAVAILABLE
    assert error.message.startswith("model house_price is not loaded (version 1: ")
    assert reason in error.message
    assert refused(models, "house_price", "1").code is Code.UNAVAILABLE

    for known in LOAD_OUTCOMES:
        loads = value(metrics, "triptych_model_loads_total", model="house_price", outcome=known)
        assert loads == (1 if known == outcome else 0)
    assert value(metrics, "triptych_model_ready", model="house_price", version="1") == 0
    info = {"provider": CPU, "task": "regression"}
    assert value(metrics, "triptych_model_info", model="house_price", version="1", **info) is None
    [line] = [vars(record) for record in caplog.records if record.levelno == logging.ERROR]
    assert (line["message"], line["model"], line["version"]) == ("model refused", "house_price", 1)
    assert reason in line["reason"]
    await models.close()


async def test_a_broken_new_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    copy(tmp_path, version=2)
    flip(copy(tmp_path, version=10))
    models = open_models(tmp_path)
    assert models.ready == {"house_price": True}
    assert models.resolve("house_price", "").label == "2"
    error = refused(models, "house_price", "10")
    assert error.code is Code.UNAVAILABLE
    assert error.message.startswith("version 10 of house_price is not loaded: the SHA-256 of model.onnx")
    await models.close()


async def test_a_model_that_no_rpc_knows_is_loaded_all_the_same(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    folder.parent.rename(tmp_path / "flat_price")
    edit(tmp_path / "flat_price" / "1", lambda manifest: manifest.update(name="flat_price"))
    models = open_models(tmp_path)
    assert models.ready == {"flat_price": True}
    await models.close()


async def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError):
        open_models(tmp_path)


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    for version in (2, 9, 10):
        copy(models, version=version)
    flip(copy(models, version=11))
    return models


@pytest.mark.parametrize(("wanted", "label"), [("", "10"), ("2", "2"), ("9", "9"), ("10", "10")])
async def test_a_version_is_found(three_versions: Path, wanted: str, label: str) -> None:
    models = open_models(three_versions)
    version = models.resolve("house_price", wanted)
    assert (version.label, version.manifest.version) == (label, int(label))
    await models.close()


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        ("3", Code.NOT_FOUND, "version: house_price has no version 3; ready: 2, 9, 10"),
        ("9" * 18, Code.NOT_FOUND, f"version: house_price has no version {'9' * 18}; ready: 2, 9, 10"),
        ("11", Code.UNAVAILABLE, "version 11 of house_price is not loaded: the SHA-256"),
        ("stable", Code.NOT_FOUND, "version: house_price has no version labelled 'stable'; labels: none"),
        ("blue-2", Code.NOT_FOUND, "version: house_price has no version labelled 'blue-2'"),
        *(
            (wanted, Code.INVALID_ARGUMENT, "is neither a positive integer nor a label ([a-z][a-z0-9-]*)")
            for wanted in ("0", "-1", "01", "1.0", "2 ", " 2", "２", "Stable", "-", "a_b", "../2", "\n", "2\n", "é")
        ),
    ],
)
async def test_a_version_that_is_not_there_is_a_clear_error(
    three_versions: Path, wanted: str, code: Code, message: str
) -> None:
    models = open_models(three_versions)
    error = refused(models, "house_price", wanted)
    assert error.code is code
    assert message in error.message
    assert "\n" not in error.message
    await models.close()


@pytest.mark.parametrize("long", ["x" * 1_000_000, "9" * 1_000_000, "\0" * 1_000_000, "a-" * 30 + "b" * 5])
async def test_long_words_of_a_client_are_shortened(three_versions: Path, long: str) -> None:
    models = open_models(three_versions)
    for error in (refused(models, "house_price", long), refused(models, long)):
        assert error.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT)
        assert len(error.message) < 500
        assert "…" in error.message
    await models.close()


async def test_an_unknown_model_is_not_found_and_told_what_there_is(three_versions: Path) -> None:
    models = open_models(three_versions)
    error = refused(models, "weather", "1")
    assert error.code is Code.NOT_FOUND
    assert error.message == "model 'weather' is not in the repository, which has: house_price"
    assert refused(new_models(three_versions), "weather").message.endswith("which has: none")
    await models.close()


async def test_the_queue_is_counted_over_all_versions(three_versions: Path) -> None:
    metrics = Metrics()
    models = open_models(three_versions, metrics)
    answers: list[Any] = []
    for version in ("2", "10"):
        request = Request([bytes(13 * 4)], 1, 52, 0.0, lambda _, answer: answers.append(answer))
        models.resolve("house_price", version).engine.submit(request)
    assert value(metrics, "triptych_queue_rows", model="house_price") == 2
    await models.close()
    assert value(metrics, "triptych_queue_rows", model="house_price") == 0
    assert len(answers) == 2


class Swap:
    """Two versions of the house price and what changes them: the second is the first, with prices doubled."""

    def __init__(self, folder: Path) -> None:
        copy(folder)
        self.folder = folder
        self.metrics = Metrics()
        self.models = new_models(folder, self.metrics)
        self.control = controlled(self.models, folder, self.metrics)
        self.control.start()

    def publish(self, version: int = 2) -> None:
        double_prices(copy(self.folder, version=version))
        self.look()

    def withdraw(self, version: int = 1) -> None:
        shutil.rmtree(self.folder / "house_price" / str(version))
        self.look()

    def look(self) -> None:
        for _ in range(2):
            self.control.look()

    def ask(self, version: Version, answers: list[Any]) -> None:
        """Queue a request; the batcher pulls it in a later turn of the loop."""
        version.engine.submit(
            Request([bytes(13 * 4)], 1, 52, time.monotonic(), lambda _, answer: answers.append(answer))
        )


async def test_a_swap_is_one_step_and_the_old_version_answers_what_it_took(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    old = swap.models.resolve("house_price", "")
    answers: list[Any] = []
    swap.ask(old, answers)
    swap.publish()
    new = swap.models.resolve("house_price", "")
    assert (old.label, new.label) == ("1", "2")
    swap.withdraw(1)
    assert refused(swap.models, "house_price", "1").code is Code.NOT_FOUND
    assert answers == [], "nothing has run yet"
    swap.ask(new, answers)
    await swap.models.close()
    [first], [second] = answers
    assert second[0, 0] == 2 * first[0, 0]


async def test_an_old_version_is_let_go_with_its_last_request(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    old = weakref.ref(swap.models.resolve("house_price", "").engine._instances[0].runner)
    answers: list[Any] = []
    swap.ask(swap.models.resolve("house_price", ""), answers)
    swap.publish()
    swap.withdraw(1)
    assert old() is not None, "it has something to answer"
    await swap.models.close()
    assert len(answers) == 1
    assert old() is None, "and without the collector's help"
    assert (
        value(swap.metrics, "triptych_model_info", model="house_price", version="1", provider=CPU, task="regression")
        is None
    )


async def test_labels_name_versions(tmp_path: Path) -> None:
    copy(tmp_path, version=2)
    copy(tmp_path, version=1)
    (tmp_path / "house_price" / "serving.toml").write_text("[labels]\nstable = 1\ncanary = 2\n")
    models = open_models(tmp_path)
    found = {wanted: models.resolve("house_price", wanted).label for wanted in ("", "stable", "canary", "1", "2")}
    assert found == {"": "1", "stable": "1", "canary": "2", "1": "1", "2": "2"}
    error = refused(models, "house_price", "blue")
    assert error.message == "version: house_price has no version labelled 'blue'; labels: stable, canary"
    await models.close()


async def test_what_was_prepared_and_never_committed_is_let_go(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    folder = copy(tmp_path, version=2)
    swap.models.prepare(Wanted(str(folder), "house_price", 2))
    assert refused(swap.models, "house_price", "2").code is Code.NOT_FOUND
    swap.models.commit({"house_price": Routing(versions=(1,), default=1)})
    with pytest.raises(KeyError):
        swap.models.commit({"house_price": Routing(versions=(1, 2), default=2)})
    await swap.models.close()


async def test_what_was_prepared_is_served_only_if_it_is_what_is_meant(tmp_path: Path) -> None:
    """Of several workers one may have prepared what another refused; the package was taken back meanwhile."""
    swap = Swap(tmp_path)
    before = swap.models.resolve("house_price", "")
    folder = tmp_path / "house_price" / "1"
    edit(folder, lambda manifest: manifest["metrics"].update(note="another"))
    prepared = swap.models.prepare(Wanted(str(folder), "house_price", 1))
    assert prepared.fresh
    as_before = Routing((1,), 1, labels={"stable": 1}, digests={1: before.digest})
    swap.models.commit({"house_price": as_before})
    assert swap.models.resolve("house_price", "stable") is before
    with pytest.raises(KeyError, match="house_price version 1 was not prepared"):
        swap.models.commit({"house_price": replace(as_before, digests={1: prepared.digest})})
    await swap.models.close()


async def test_what_takes_another_ones_place_is_listed_alone(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    edit(tmp_path / "house_price" / "1", lambda manifest: manifest.update(task="binary-classification"))
    swap.look()

    def listed(task: str) -> float | None:
        return value(swap.metrics, "triptych_model_info", model="house_price", version="1", provider=CPU, task=task)

    assert (listed("regression"), listed("binary-classification")) == (None, 1)
    shutil.rmtree(tmp_path / "house_price" / "1")
    copy(tmp_path, "topic")
    swap.look()
    assert listed("binary-classification") is None
    await swap.models.close()


async def test_a_package_that_changed_since_its_trial_is_refused(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    folder = copy(tmp_path, version=2)
    with pytest.raises(LoadError, match="it changed while it was tried out"):
        swap.models.prepare(Wanted(str(folder), "house_price", 2, "0" * 64))
    await swap.models.close()


async def test_an_unloaded_model_says_so(tmp_path: Path) -> None:
    swap = Swap(tmp_path)
    swap.models.commit({"house_price": Routing(needed=False)})
    assert swap.models.ready == {"house_price": False}
    assert swap.models.all_ready is True
    error = refused(swap.models, "house_price")
    assert error.code is Code.UNAVAILABLE
    assert error.message == "model house_price is not loaded"
    await swap.models.close()
