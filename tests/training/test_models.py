"""The recipes are the book's."""

import keras
import numpy as np
import pytest

from training.data import Table
from training.models import DIGITS, HOUSE_PRICE, RECIPES, SENTIMENT, TOPIC, Recipe, build


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        (SENTIMENT, 10_000 * 16 + 16 + 16 * 16 + 16 + 16 + 1),
        (TOPIC, 10_000 * 64 + 64 + 64 * 64 + 64 + 64 * 46 + 46),
        (HOUSE_PRICE, 13 * 64 + 64 + 64 * 64 + 64 + 64 + 1),
        (DIGITS, 784 * 512 + 512 + 512 * 10 + 10),
    ],
)
def test_networks_have_the_books_layers(recipe: Recipe, parameters: int) -> None:
    shape = (50, *recipe.sample)
    table = None if recipe.is_text else Table(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    network = build(recipe, table)
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == parameters
    assert network.layers[-1].activation.__name__ == recipe.activation
    assert isinstance(network.optimizer, keras.optimizers.RMSprop)
    assert network.loss == recipe.loss


def test_training_is_the_books() -> None:
    books = (SENTIMENT, TOPIC, HOUSE_PRICE, DIGITS)
    assert [(recipe.epochs, recipe.batch_size) for recipe in books] == [(4, 512), (9, 512), (80, 16), (5, 128)]
    assert [(recipe.validation_samples, recipe.folds) for recipe in books] == [
        (10_000, 0),
        (1_000, 0),
        (0, 4),
        (10_000, 0),
    ]
    assert {recipe.seed for recipe in RECIPES.values()} == {0}


def test_labels_are_the_topics_in_order() -> None:
    assert len(set(TOPIC.labels)) == TOPIC.outputs == 46
    assert [TOPIC.labels[topic] for topic in (0, 3, 4, 16, 45)] == ["cocoa", "earn", "acq", "crude", "lead"]


def test_grey_values_are_flattened_and_divided_by_the_largest() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    network = build(DIGITS)
    _, flatten, *_ = network.layers
    rows = np.asarray(keras.Model(network.inputs, [flatten.output])([images]))
    np.testing.assert_allclose(rows, images.reshape(5, 784).astype(np.float32) / 255, rtol=1e-6)


def test_scaling_comes_from_the_table_given() -> None:
    table = Table(np.random.default_rng(0).normal(7, 3, (200, 13)).astype(np.float32))
    scaling = build(HOUSE_PRICE, table).layers[0]
    np.testing.assert_allclose(np.asarray(scaling.mean)[0], table.values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(scaling.variance)[0], table.values.var(axis=0), rtol=1e-4)
