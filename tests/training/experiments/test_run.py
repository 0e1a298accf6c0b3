"""Experiments are run once, go on where they stopped, and never see the test set."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import REPOSITORY, Tiny
from training import runs
from training.callbacks import Report
from training.data import Data, load
from training.experiments import measure as measuring
from training.experiments import run as module
from training.experiments.run import folder, recorded, run_all
from training.experiments.stale import differs
from training.experiments.variants import Variant
from training.models import RECIPES, Recipe

BOOK, L2, DROPOUT = (
    Variant("book", "As it is?"),
    Variant("l2", "With a penalty?", {"l2": 0.001}),
    Variant("dropout", "With dropout?", {"dropout": 0.5}),
)


class Unseen:
    """Stands for what must not be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the test set was asked for")


@pytest.fixture
def topic(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs experiments with a small model of topics, in this process, on a test set that can't be looked at."""
    monkeypatch.setitem(RECIPES, "topic", tiny.recipes["topic"])
    monkeypatch.setattr(module, "run_in_own_process", lambda function, argument, name: function(argument))

    def without_test_set(*arguments: Any) -> Data:
        return dataclasses.replace(load(*arguments), x_test=Unseen(), y_test=Unseen())  # type: ignore[arg-type]

    monkeypatch.setattr(module, "load", without_test_set)

    def run(at: Path, *variants: Variant, **options: bool) -> int:
        return run_all("topic", variants, tiny.data, at, **options)

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the training's place where only its record matters."""

    def measure(recipe: Recipe, x: object, y: object, report: Report, options: object) -> tuple[dict[str, float], str]:
        report(runs.Epoch("validation", 1, 1, {"val_loss": recipe.l2}))
        return {"accuracy": 0.5}, "made up"

    monkeypatch.setattr(measuring, "measure", measure)


def files(at: Path) -> dict[str, int]:
    """Each file below `at`, and when it was written."""
    return {str(path.relative_to(at)): path.stat().st_mtime_ns for path in at.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
def test_what_is_done_is_skipped(topic: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert topic(tmp_path, BOOK, L2) == 2
    first = files(tmp_path)
    assert first.keys() == {f"experiments/topic/{name}/record.json" for name in ("book", "l2")}
    assert topic(tmp_path, BOOK, L2) == 0
    assert "done already: book, l2" in capsys.readouterr().out
    assert files(tmp_path) == first
    assert topic(tmp_path, BOOK, L2, DROPOUT) == 1
    assert first.items() < files(tmp_path).items()
    assert topic(tmp_path, BOOK, again=True) == 1


def test_a_record_says_what_was_run_and_holds_no_test_figures(topic: Callable[..., int], tmp_path: Path) -> None:
    topic(tmp_path / "first", L2)
    topic(tmp_path / "second", L2)
    record, again = (runs.read(folder(tmp_path / place, "topic") / "l2") for place in ("first", "second"))
    untimed = [[dataclasses.replace(epoch, seconds=0) for epoch in each.epochs] for each in (record, again)]
    assert untimed[0] == untimed[1]
    assert record.validation == again.validation
    assert [device.name for device in record.devices] == ["cpu"]
    assert all(epoch.seconds > 0 and epoch.samples == 130 for epoch in record.epochs)
    assert (record.model, record.recipe, record.test, record.baselines, record.mistakes) == ("topic", "l2", {}, {}, [])
    assert record.hyperparameters["l2"] == 0.001
    assert [epoch.done for epoch in record.epochs] == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= record.epochs[0].figures.keys()
    assert record.validation["accuracy"] == pytest.approx(record.epochs[-1].figures["val_accuracy"])
    assert runs.read_predictions(folder(tmp_path / "first", "topic") / "l2") is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("changes", [{"l2": 0.01}, {"l2": 0.001, "seed": 1}, {"l2": 0.001, "validation_samples": 20}])
def test_a_changed_variant_is_run_again(topic: Callable[..., int], tmp_path: Path, changes: dict[str, float]) -> None:
    topic(tmp_path, BOOK, L2)
    before = files(tmp_path)
    changed = dataclasses.replace(L2, changes=changes)
    assert topic(tmp_path, BOOK, changed) == 1
    after = files(tmp_path)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"experiments/topic/l2/record.json"}
    assert topic(tmp_path, BOOK, changed) == 0


@pytest.mark.usefixtures("quick")
def test_other_data_and_damage_make_a_record_stale(topic: Callable[..., int], tiny: Tiny, tmp_path: Path) -> None:
    topic(tmp_path, BOOK)
    recipe = BOOK.recipe("topic")
    record = runs.read(tmp_path / "experiments/topic/book")
    assert differs(record, recipe) == ""
    dataset = dataclasses.replace(recipe.dataset, arrays=dataclasses.replace(recipe.dataset.arrays, sha256="0"))
    assert differs(record, dataclasses.replace(recipe, dataset=dataset)) == "data"
    assert differs(record, dataclasses.replace(recipe, seed=1, epochs=3)) == "hyperparameters and seed"
    path = tmp_path / "experiments/topic/book/record.json"
    path.write_bytes(path.read_bytes()[:100])
    assert recorded(path.parent, recipe) is None
    assert topic(tmp_path, BOOK) == 1
    assert recorded(path.parent, recipe) is not None


@pytest.mark.usefixtures("quick")
def test_interrupted_in_training_it_goes_on_where_it_stopped(
    topic: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = measuring.measure

    def interrupted(recipe: Recipe, *arguments: Any) -> tuple[dict[str, float], str]:
        if recipe.variant == "l2":
            raise KeyboardInterrupt
        return measure(recipe, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            topic(tmp_path, BOOK, L2, DROPOUT)
    before = files(tmp_path)
    assert before.keys() == {"experiments/topic/book/record.json"}
    assert topic(tmp_path, BOOK, L2, DROPOUT) == 2
    assert before.items() < files(tmp_path).items()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_interrupted_in_writing_it_leaves_what_was_there(
    topic: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    topic(tmp_path, BOOK)
    before = files(tmp_path)

    def write(path: Path, *_: Any) -> None:
        path.mkdir()
        (path / "part").write_text("half")
        raise KeyboardInterrupt

    def rename(path: Path, target: Path) -> None:
        if path.name == "new":
            raise KeyboardInterrupt
        os.rename(path, target)

    if moment == "write":
        monkeypatch.setattr(module.runs, "write", write)
    else:
        monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        topic(tmp_path, BOOK, again=True)
    assert files(tmp_path) == before
    assert [path.name for path in (tmp_path / "experiments/topic").iterdir()] == ["book"]


def test_a_signal_ends_it_with_whole_folders_only(tiny: Tiny, tmp_path: Path) -> None:
    """As people run it: in processes of their own, the second of which is interrupted."""
    program = (
        "import pickle, sys; from pathlib import Path; from training.experiments.run import run_all; "
        "from training.models import RECIPES\n"
        "recipes, variants, data, at = pickle.loads(bytes.fromhex(sys.argv[1])); RECIPES.update(recipes)\n"
        "try: run_all('topic', variants, data, at)\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    long = dataclasses.replace(L2, changes={"epochs": 2000})
    what = pickle.dumps((tiny.recipes, (BOOK, long, DROPOUT), tiny.data, tmp_path)).hex()
    with subprocess.Popen(
        [sys.executable, "-c", program, what], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert any("l2, 2 of 3" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert files(tmp_path).keys() == {"experiments/topic/book/record.json"}
    assert [path.name for path in (tmp_path / "experiments/topic").iterdir()] == ["book"]
