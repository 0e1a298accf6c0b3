"""Variants are the book's recipes with something changed."""

import pytest

from training.errors import TrainingError
from training.experiments.comparison import weights
from training.experiments.variants import BOOK, VARIANTS, chosen
from training.models import RECIPES, build


@pytest.mark.parametrize("model", VARIANTS)
def test_the_books_own_comes_first_and_the_others_differ_from_it(model: str) -> None:
    book, *others = VARIANTS[model]
    assert (book.name, book.group) == (BOOK, "")
    assert book.changes.keys() == {"epochs"}
    recipes = [variant.recipe(model) for variant in VARIANTS[model]]
    assert len({recipe.variant for recipe in recipes}) == len(recipes)
    for variant in others:
        assert variant.group
        assert variant.asks.endswith("?")
        changed = {field for field, value in variant.changes.items() if value != getattr(recipes[0], field)}
        assert len(changed) == (2 if variant.name == "l1-l2" else 1), variant


def test_chosen_are_in_order_and_known() -> None:
    assert [variant.name for variant in chosen("sentiment", ["l2", "book"])] == ["book", "l2"]
    with pytest.raises(TrainingError, match="sentiment has no experiment 'bottleneck', only book, layers-1"):
        chosen("sentiment", ["bottleneck"])
    with pytest.raises(TrainingError, match="no experiments with digits, only with sentiment"):
        chosen("digits", ["book"])


@pytest.mark.parametrize(("model", "name"), [("sentiment", "layers-3"), ("topic", "bottleneck")])
def test_weights_are_those_that_keras_counts(model: str, name: str) -> None:
    [variant] = chosen(model, [name])
    recipe = variant.recipe(model)
    assert weights(recipe) == build(recipe).count_params()
    assert RECIPES[model].variant == BOOK
