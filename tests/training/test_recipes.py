"""The recipe that flags ask for, and how it is validated."""

import dataclasses

import pytest

from training.best import BEST
from training.errors import TrainingError
from training.models import DIGITS, HOUSE_PRICE, RECIPES, SENTIMENT, TOPIC
from training.recipes import VARIANTS, Protocol, recipe, with_protocol


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_by_name_and_variant(name: str) -> None:
    assert VARIANTS == ("book", "best")
    assert recipe(name, "book") is RECIPES[name]
    assert recipe(name, "best") is BEST.get(name, RECIPES[name])
    assert recipe("digits", "best") is DIGITS, "the book's, where there is no better"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_changes_nothing_else(variant: str) -> None:
    for seed in (0, 7, 2**32 - 1):
        found = recipe("topic", variant, seed)
        assert found.seed == seed
        assert dataclasses.replace(found, seed=0) == recipe("topic", variant)
        assert type(found) is type(recipe("topic", variant))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_cannot_be(seed: int) -> None:
    with pytest.raises(TrainingError, match=f"--seed {seed}: expected a number from 0 to 4294967295"):
        recipe("topic", "best", seed)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("hold-out", (0, 1, 1_000)), ("k-fold", (5, 1, 1_000)), ("iterated-k-fold", (5, 3, 1_000))],
)
def test_another_protocol(protocol: Protocol, expected: tuple[int, int, int]) -> None:
    changed = with_protocol(with_protocol(TOPIC, "iterated-k-fold", 9, 9), protocol, 5, 3)
    assert (changed.folds, changed.iterations, changed.validation_samples) == expected
    names = ("folds", "iterations")
    assert dataclasses.replace(changed, **{name: getattr(TOPIC, name) for name in names}) == TOPIC


def test_a_fold_is_held_out_of_houses_and_not_some_samples() -> None:
    assert with_protocol(HOUSE_PRICE, "k-fold", 4, 3) == HOUSE_PRICE
    with pytest.raises(TrainingError, match="house_price has too few samples to hold some out: expected a k-fold one"):
        with_protocol(HOUSE_PRICE, "hold-out", 4, 3)


@pytest.mark.parametrize(("folds", "iterations"), [(1, 3), (0, 3), (4, 0)])
def test_numbers_that_make_no_sense(folds: int, iterations: int) -> None:
    for protocol in ("k-fold", "iterated-k-fold"):
        with pytest.raises(TrainingError, match=f"{folds} folds, {iterations} iterations: expected at least 2 and 1"):
            with_protocol(SENTIMENT, protocol, folds, iterations)  # type: ignore[arg-type]
