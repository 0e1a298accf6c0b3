"""A file of hyperparameters is written and taken, and a wrong one refused."""

from pathlib import Path

import msgspec
import pytest

from training.errors import TrainingError
from training.models import SENTIMENT, TOPIC
from training.tuning.best import Best, Hyperparameters, apply, write

CHOSEN = Hyperparameters(hidden=(32, 32), hidden_activation="tanh", dropout=0.2, l2=1e-4, optimizer="adam", epochs=7)
BEST = Best("topic", CHOSEN, "accuracy", 0.8, "held out", "random", 5, 0)


def test_a_fit_takes_what_a_search_wrote(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    write(path, BEST)
    recipe = apply(TOPIC, path)
    assert (recipe.hidden, recipe.hidden_activation, recipe.dropout) == ((32, 32), "tanh", 0.2)
    assert (recipe.l2, recipe.optimizer, recipe.epochs) == (1e-4, "adam", 7)
    assert recipe.variant == "tuned"
    assert (recipe.name, recipe.loss, recipe.batch_size) == (TOPIC.name, TOPIC.loss, TOPIC.batch_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": []}, "hidden"),
        ({"hidden": [0]}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"l2": -1.0}, "l2"),
        ({"optimizer": "magic"}, "optimizer"),
        ({"hidden_activation": "magic"}, "hidden_activation"),
        ({"epochs": 0}, "epochs"),
        ({"batch": 3}, "batch"),
    ],
)
def test_values_that_make_no_sense_are_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    raw = msgspec.to_builtins(BEST)
    raw["hyperparameters"] |= change
    (tmp_path / "best.json").write_bytes(msgspec.json.encode(raw))
    with pytest.raises(TrainingError, match=f"best.json: no hyperparameters.*{message}"):
        apply(TOPIC, tmp_path / "best.json")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    with pytest.raises(TrainingError, match="training tune topic"):
        apply(TOPIC, path)
    path.write_text("no JSON")
    with pytest.raises(TrainingError, match="no hyperparameters"):
        apply(TOPIC, path)
    write(path, BEST)
    with pytest.raises(TrainingError, match="of topic, not of sentiment"):
        apply(SENTIMENT, path)
