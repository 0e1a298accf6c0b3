"""What a fit records: every figure beside the baselines', and the worst mistakes in words."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from training import runs
from training.data import load
from training.job import Job, run
from training.recording import BASELINES, mistakes

from .conftest import Tiny


@pytest.fixture(scope="module")
def recorded(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    for name in ("sentiment", "house_price"):
        outcome = run(Job(tiny.recipes[name], data=tiny.data, out=folder / "models", runs=folder / "runs"))
        assert outcome.run == folder / "runs" / name / "book-seed0"
    return folder / "runs"


def test_figures_stand_beside_the_baselines(recorded: Path) -> None:
    for name, metric, baselines in (
        ("sentiment", "roc_auc", ["majority", "at_random", "linear"]),
        ("house_price", "r2", ["mean", "linear"]),
    ):
        record = runs.read(recorded / name / "book-seed0")
        assert list(record.baselines) == baselines
        assert record.test[record.metric] == pytest.approx(record.test[record.metric])
        assert metric in record.test
        assert record.baselines["linear"].keys() >= {record.metric, metric}
        assert record.package == str(recorded.parent / "models" / name / "1")
        assert record.gate == "the first version"
        assert "test samples" in record.duplicates
        assert {"val_loss", "loss"} <= record.epochs[0].figures.keys()
        assert record.epochs[-1].stage == "final"
        assert [device.name for device in record.devices] == ["cpu"]
        assert all(epoch.seconds > 0 and epoch.samples > 0 for epoch in record.epochs)


def test_predictions_are_the_networks(recorded: Path, tiny: Tiny) -> None:
    found = runs.read_predictions(recorded / "house_price" / "book-seed0")
    assert found is not None
    predictions, targets = found
    np.testing.assert_array_equal(targets, load(tiny.recipes["house_price"].dataset, tiny.data).y_test)
    record = runs.read(recorded / "house_price" / "book-seed0")
    assert np.abs(predictions[:, 0] - targets).mean() == pytest.approx(record.test["mae"])


def test_baselines_are_measured_once_for_the_same_data(recorded: Path, tiny: Tiny, tmp_path: Path) -> None:
    kept = recorded / "house_price" / BASELINES
    changed = json.loads(kept.read_text())
    changed["figures"]["mean"]["mae"] = -1.0
    (tmp_path / "house_price").mkdir()
    beside = tmp_path / "house_price" / BASELINES
    quick = dataclasses.replace(tiny.recipes["house_price"], epochs=1, folds=0, validation_samples=10)
    for content, expected in ((json.dumps(changed), -1.0), ("{}", None)):
        beside.write_text(content)
        outcome = run(Job(quick, data=tiny.data, out=tmp_path / "m", runs=tmp_path, gate=False))
        assert outcome.run is not None
        found = runs.read(outcome.run).baselines["mean"]["mae"]
        assert (found == expected) if expected else (found > 0)


def test_the_worst_mistakes_in_words(tiny: Tiny) -> None:
    recipe = tiny.recipes["topic"]
    data = load(recipe.dataset, tiny.data)
    right = np.eye(46, dtype=np.float32)[data.y_test]
    assert mistakes(recipe, data, right) == []
    wrong = right.copy()
    other = (data.y_test[7] + 1) % 46
    wrong[7] = 0.1 * np.eye(46)[data.y_test[7]] + 0.9 * np.eye(46)[other]
    [worst] = mistakes(recipe, data, wrong)
    assert (worst.row, worst.target, worst.predicted) == (7, recipe.labels[data.y_test[7]], recipe.labels[other])
    assert worst.score == pytest.approx(0.9)
    assert len(worst.text.split()) > 0


def test_a_house_in_words(tiny: Tiny) -> None:
    recipe = tiny.recipes["house_price"]
    data = load(recipe.dataset, tiny.data)
    predictions = data.y_test[:, None].astype(np.float32)
    predictions[3] += 50
    first = mistakes(recipe, data, predictions)[0]
    assert (first.row, first.score) == (3, pytest.approx(50, abs=0.01))
    assert first.text.startswith(f"crime rate {data.x_test.values[3][0]:g}, ")  # type: ignore[union-attr]
    assert float(first.predicted) == pytest.approx(float(first.target) + 50, abs=0.11)
