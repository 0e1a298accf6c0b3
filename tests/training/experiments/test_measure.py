"""A variant is measured as its recipe is validated, and with features hidden."""

import dataclasses

import numpy as np
import pytest

from tests.training.conftest import Tiny
from training.data import load
from training.experiments.measure import measure
from training.fit import validate
from training.runs import Epoch


def silent(*_: object) -> None: ...


@pytest.mark.parametrize("model", ["topic", "house_price"])
def test_figures_are_those_of_validation(tiny: Tiny, model: str) -> None:
    recipe = tiny.recipes[model]
    if recipe.folds:
        recipe = dataclasses.replace(recipe, folds=2)
    data = load(recipe.dataset, tiny.data)
    reported: list[tuple[str, int, int]] = []

    def report(epoch: Epoch) -> None:
        assert {"loss", "val_loss", f"val_{recipe.metric}"} <= epoch.figures.keys()
        reported.append((epoch.stage, epoch.done, epoch.of))

    figures, protocol = measure(recipe, data.x_train, data.y_train, report)
    validation = validate(recipe, data.x_train, data.y_train, silent)
    wanted = validation.figures
    assert {name: figures[name] for name in wanted} == wanted
    assert protocol == validation.protocol
    stages = [f"fold {fold}/2" for fold in (1, 2)] if recipe.folds else ["validation"]
    assert reported == [(stage, done, 2) for stage in stages for done in (1, 2)]
    missing = {f"{name}_missing" for name in wanted} if model == "house_price" else set()
    assert figures.keys() == {*wanted, *missing}


def test_hidden_features_cost_what_they_say(tiny: Tiny) -> None:
    recipe = dataclasses.replace(tiny.recipes["house_price"], folds=0, validation_samples=30, epochs=10)
    data = load(recipe.dataset, tiny.data)
    figures, _ = measure(recipe, data.x_train, data.y_train, silent)
    assert figures["mae_missing"] > figures["mae"]
    # Of features that never vary, the mean is the value: nothing is lost by hiding one.
    constant = dataclasses.replace(data.x_train, values=np.ones_like(data.x_train.values))  # type: ignore[arg-type]
    figures, _ = measure(dataclasses.replace(recipe, epochs=1), constant, data.y_train, silent)
    assert figures["mae_missing"] == pytest.approx(figures["mae"])
