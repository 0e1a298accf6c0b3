"""A search validates what it tries, never looks at the test set, goes on where it stopped, and keeps the best."""

import dataclasses
from pathlib import Path

import pytest

from training.data import Data, load
from training.errors import TrainingError
from training.tuning import search as module
from training.tuning import tuner
from training.tuning.best import Hyperparameters, apply
from training.tuning.order import Search
from training.tuning.search import run
from training.tuning.space import hyperparameters, space

from ..conftest import Tiny

# KerasTuner 1.4.8 asks for its thread by names that Python 3.10 deprecated.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:currentThread\(\) is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:getName\(\) is deprecated:DeprecationWarning"),
]


@pytest.fixture
def order(tiny: Tiny, tmp_path: Path) -> Search:
    return Search(tiny.recipes["topic"], tiny.data, tmp_path, kind="random", trials=3, epochs=4, seed=0)


@pytest.fixture(scope="module")
def data(tiny: Tiny) -> Data:
    whole = load(tiny.recipes["topic"].dataset, tiny.data)
    return dataclasses.replace(whole, x_test=None, y_test=None)  # type: ignore[arg-type]


def test_a_search_trains_and_the_file_holds_its_best(order: Search, data: Data) -> None:
    lines: list[str] = []
    found = run(dataclasses.replace(order, trials=2), data, lines.append)
    assert [line.split(":")[0] for line in lines[1:]] == ["trial 0", "trial 1"]
    assert lines[0].startswith("the book's recipe: accuracy")
    assert found.trials[0].value >= found.trials[1].value
    assert all(1 <= trial.hyperparameters.epochs <= order.epochs for trial in found.trials)
    recipe = apply(order.recipe, Path(found.file))
    chosen = found.trials[0].hyperparameters
    assert (recipe.hidden, recipe.optimizer, recipe.epochs) == (chosen.hidden, chosen.optimizer, chosen.epochs)
    assert "held out" in found.book.protocol


class Fake:
    """Stands for training: wider is better; counts, and can be interrupted."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[Hyperparameters] = []
        self._stop_after = stop_after

    def __call__(self, recipe, data, options, patience):  # type: ignore[no-untyped-def]
        if recipe.variant != "tuned":
            return 0.5, recipe.epochs, "a protocol"
        if len(self.seen) == self._stop_after:
            raise KeyboardInterrupt
        self.seen.append((recipe.hidden, recipe.dropout, recipe.l2, recipe.optimizer, recipe.epochs))
        return sum(recipe.hidden) / 1000, max(1, recipe.epochs - 1), "a protocol"


def fake(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> Fake:
    made = Fake(stop_after)
    monkeypatch.setattr(module, "_measure", made)
    return made


def silent(_: str) -> None: ...


def test_an_interrupted_search_goes_on(order: Search, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fake(monkeypatch)
    run(dataclasses.replace(order, runs=order.runs / "whole"), data, silent)
    assert len(whole.seen) == 3

    first = fake(monkeypatch, stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        run(order, data, silent)
    second = fake(monkeypatch)
    found = run(order, data, silent)
    assert first.seen + second.seen == whole.seen
    assert len(found.trials) == 3

    third = fake(monkeypatch)
    run(order, data, silent)
    assert third.seen == []  # all is done
    assert len(run(dataclasses.replace(order, trials=5), data, silent).trials) == 5
    assert len(third.seen) == 2


def test_a_seed_gives_the_same_trials(order: Search, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    for number, seed in enumerate((0, 0, 1)):
        each = fake(monkeypatch)
        run(dataclasses.replace(order, runs=order.runs / str(number), seed=seed), data, silent)
        tried.append(each.seen)
    assert tried[0] == tried[1] != tried[2]


def test_hyperband_gives_the_better_half_more_epochs(
    order: Search, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = fake(monkeypatch)
    found = run(dataclasses.replace(order, kind="hyperband", trials=None, epochs=9), data, silent)
    epochs = [seen[-1] for seen in each.seen]
    assert set(epochs) == {1, 3, 9}
    assert epochs.count(1) > epochs.count(9) > 0
    widest_of_short = max(sum(seen[0]) for seen in each.seen if seen[-1] == 1)
    assert widest_of_short in {sum(seen[0]) for seen in each.seen if seen[-1] == 3}
    assert found.trials[0].value == max(trial.value for trial in found.trials)


@pytest.mark.parametrize("change", [{"kind": "hyperband"}, {"epochs": 5}, {"seed": 1}])
def test_a_folder_of_another_search_is_refused(
    order: Search, data: Data, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    run(order, data, silent)
    with pytest.raises(TrainingError, match="holds another search: random, 4 epochs, seed 0"):
        run(dataclasses.replace(order, **change), data, silent)  # type: ignore[arg-type]


def test_a_failure_is_told_and_not_taken_for_a_bad_trial(
    order: Search, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(recipe, data, options, patience):  # type: ignore[no-untyped-def]
        if recipe.variant == "tuned":
            raise TrainingError("no more memory")
        return 0.5, 1, ""

    monkeypatch.setattr(module, "_measure", broken)
    with pytest.raises(TrainingError, match="no more memory"):
        run(order, data, silent)
    each = fake(monkeypatch)
    assert len(run(order, data, silent).trials) == order.trials == len(each.seen)


@pytest.mark.parametrize("name", ["sentiment", "topic", "house_price", "digits"])
def test_the_books_choice_can_be_found(name: str, tiny: Tiny) -> None:
    recipe = tiny.recipes[name]
    chosen = hyperparameters(space(recipe).values, recipe.epochs)
    assert chosen.hidden == recipe.hidden
    assert (chosen.hidden_activation, chosen.optimizer) == ("relu", "rmsprop")
    assert (chosen.dropout, chosen.l2) == (0, 0)


def test_a_trial_is_told_in_a_line() -> None:
    assert tuner.described(
        Hyperparameters(hidden=(8, 8), hidden_activation="relu", dropout=0.0, l2=0.0, optimizer="adam", epochs=2)
    ).startswith("8–8 relu")
