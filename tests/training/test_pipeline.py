"""TensorFlow's own pipeline gives the batches that Python's do, in the order in which Keras asks for those."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from training.data import Sequences, load
from training.fit import Batches, make_deterministic, train
from training.models import Recipe
from training.pipeline import multi_hot_batches, steps

from .conftest import Tiny

Texts = tuple[Recipe, Sequences, np.ndarray]


@pytest.fixture(scope="module", params=["sentiment", "topic"])
def texts(request: pytest.FixtureRequest, tiny: Tiny) -> Texts:
    recipe = tiny.recipes[request.param]
    data = load(recipe.dataset, tiny.data)
    assert isinstance(data.x_train, Sequences)
    return recipe, data.x_train, data.y_train


def test_samples_in_their_own_order(texts: Texts) -> None:
    recipe, x, y = texts
    found = [(dense.numpy(), targets.numpy()) for dense, targets in multi_hot_batches(recipe, x, y, None)]
    assert len(found) == steps(recipe, len(y))
    assert [len(targets) for _, targets in found][:-1] == [recipe.batch_size] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate([dense for dense, _ in found]), x.batch(np.arange(len(y))))
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in found]), y)


def test_each_epoch_is_every_sample_once_in_a_new_order(texts: Texts) -> None:
    recipe, x, _ = texts
    rows = np.arange(len(x))  # for targets, so that they tell which samples came
    seen = [targets.numpy() for _, targets in multi_hot_batches(recipe, x, rows, 0)]
    a_part = steps(recipe, len(x))
    epochs = [np.concatenate(seen[start : start + a_part]) for start in range(0, len(seen), a_part)]
    assert len(epochs) == recipe.epochs == 2
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()


def test_one_hot_targets(texts: Texts) -> None:
    recipe, x, y = texts
    as_rows = dataclasses.replace(recipe, loss="categorical_crossentropy", outputs=46)
    found = np.concatenate([targets.numpy() for _, targets in multi_hot_batches(as_rows, x, y, None)])
    np.testing.assert_array_equal(found, np.eye(46, dtype=np.float32)[y])


def test_keras_learns_the_same_from_either(texts: Texts, tmp_path: Path) -> None:
    recipe, x, y = texts
    found = train(recipe, x, y, "final", lambda *_: None).get_weights()
    make_deterministic(recipe.seed)
    network = recipe.network(x, y)
    network.fit(Batches(recipe, x, y, recipe.seed), epochs=recipe.epochs, shuffle=False, verbose=0)
    assert [weight.tobytes() for weight in found] == [weight.tobytes() for weight in network.get_weights()]
