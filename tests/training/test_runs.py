"""A run's folder reads back as it was written, and says so when it is none."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from training import runs
from training.errors import TrainingError

RECORD = runs.Record(
    model="topic",
    recipe="book",
    seed=3,
    task="multiclass-classification",
    metric="accuracy",
    labels=["a", "b"],
    hyperparameters={"hidden": [64, 64]},
    provenance={},
    protocol="by hand",
    epochs=[runs.Epoch("final", 1, 2, {"loss": 0.5})],
    validation={"accuracy": 0.8},
    seconds=1.5,
    training_seconds=None,
    peak_memory_bytes=1,
    mistakes=[runs.Mistake(4, "text", "a", "b", 0.9)],
)


def test_written_and_read(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path, "topic", "book", 3)
    assert folder == tmp_path / "topic" / "book-seed3"
    runs.write(folder, RECORD)
    assert runs.read(folder) == RECORD
    assert runs.read_predictions(folder) is None
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_predictions_go_with_it_and_old_ones_do_not_stay(tmp_path: Path) -> None:
    predictions, targets = np.random.default_rng(0).random((5, 2)), np.arange(5)
    runs.write(tmp_path, RECORD, predictions, targets)
    found = runs.read_predictions(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found[0], predictions)
    np.testing.assert_array_equal(found[1], targets)
    runs.write(tmp_path, dataclasses.replace(RECORD, seed=4))
    assert runs.read_predictions(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is not a run: it holds no record.json"), ("{}", "can't be read")]
)
def test_what_is_no_run(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(TrainingError, match=message):
        runs.read(tmp_path)


def test_a_run_with_options_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path, "topic", "book", 3, {"early_stopping": 2, "precision": "bfloat16"})
    assert folder == tmp_path / "topic" / "book-seed3-early-stopping-2-precision-bfloat16"


def test_the_report_of_a_run_before_it_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("report.html", "report.md", "figures/curve.svg", "other"):
        (tmp_path / name).write_text("")
    runs.write(tmp_path, RECORD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "record.json"]
