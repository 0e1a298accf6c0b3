"""The command: what it asks a search for, what it shows, and what it refuses."""

import argparse
from pathlib import Path

import pytest

from training.commands import tune
from training.commands.common import parents
from training.errors import TrainingError
from training.tuning.best import Hyperparameters
from training.tuning.order import Search, Trial
from training.tuning.search import Book, Found

CHOSEN = Hyperparameters(hidden=(32, 32), hidden_activation="tanh", dropout=0.2, l2=1e-4, optimizer="adam", epochs=7)
RECIPE = {"hidden": [64, 64], "optimizer": "rmsprop", "epochs": 9}
FOUND = Found(
    [Trial("03", CHOSEN, 0.8125, 4.2)], Book("random", 18, 0, RECIPE, 0.7933, "the first 1,000 samples"), "best.json"
)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Search]:
    orders: list[Search] = []

    def in_own_process(_: object, order: Search, name: str) -> Found:
        orders.append(order)
        return FOUND

    monkeypatch.setattr(tune, "run_in_own_process", in_own_process)
    parser = argparse.ArgumentParser()
    tune.add(parser.add_subparsers(), parents())
    options = parser.parse_args(["tune", *arguments])
    assert options.run(options) == 0
    return orders


def test_the_best_trials_are_shown_beside_the_book(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "topic")
    output = capsys.readouterr().out
    for shown in ("03", "0.8125", "32–32", "tanh", "adam", "the book", "0.7933", "64–64", "the first 1,000 samples"):
        assert shown in output
    assert "training fit topic --hyperparameters best.json" in output


def test_flags_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    (order,) = run(monkeypatch, "topic")
    assert (order.kind, order.trials, order.epochs, order.seed) == ("random", None, 18, 0)
    assert order.folder == Path("runs/tune/topic")
    flags = "house_price --search hyperband --trials 3 --epochs 5 --runs other --seed 2 --data there"
    (order,) = run(monkeypatch, *flags.split())
    assert (order.recipe.name, order.recipe.variant, order.data) == ("house_price", "book", Path("there"))
    assert (order.kind, order.trials, order.epochs, order.seed) == ("hyperband", 3, 5, 2)
    assert order.folder == Path("other/tune/house_price")


@pytest.mark.parametrize("flags", ["--trials 0", "--epochs 0", "--seed -1"])
def test_numbers_that_make_no_sense_are_refused(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=flags.split()[0]):
        run(monkeypatch, "topic", *flags.split())
