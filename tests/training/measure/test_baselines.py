"""Baselines predict in a network's shape, from training samples only, the same each time; the linear one learns."""

from pathlib import Path

import numpy as np
import pytest

from serving.package.manifest import Task
from training.data import BOSTON_HOUSING, NUM_WORDS, Data, Sequences, Table, load
from training.errors import TrainingError
from training.measure.baselines import all_for, at_random, linear, majority, mean_predictor, multi_hot
from training.measure.metrics import classification, regression
from training.measure.protocols import hold_out

BLANK = Table(np.zeros((5, 2), np.float32))
RANDOM = np.random.default_rng(0)


def _texts(labels: np.ndarray, seed: int = 0) -> Sequences:
    """Texts of common words, with word 100 + label in each."""
    random = np.random.default_rng(seed)
    return Sequences.from_ranks([[*random.integers(1, 90, 8).tolist(), 100 + int(label)] for label in labels])


def test_majority_is_sure_of_nothing_but_the_shares() -> None:
    predictions = majority(np.array([2, 0, 2, 2]), 4)(BLANK)
    assert predictions.shape == (5, 4)
    assert predictions.dtype == np.float32
    np.testing.assert_array_equal(predictions, np.tile([0.25, 0, 0.75, 0], (5, 1)))
    np.testing.assert_array_equal(majority(np.array([1, 1, 1, 0]), 2)(BLANK), np.full((5, 1), 0.75))


def test_at_random_draws_as_often_as_in_training() -> None:
    targets = np.array([0] * 70 + [3] * 30)
    table = Table(np.zeros((20_000, 1), np.float32))
    predictions = at_random(targets, 4, seed=1)(table)
    assert set(np.unique(predictions)) == {0, 1}
    assert (predictions.sum(axis=1) == 1).all()
    np.testing.assert_allclose(predictions.mean(axis=0), [0.7, 0, 0, 0.3], atol=0.01)
    np.testing.assert_array_equal(predictions, at_random(targets, 4, seed=1)(table))
    assert (predictions != at_random(targets, 4, seed=2)(table)).any()


def test_mean() -> None:
    predictions = mean_predictor(np.array([1.0, 2.0, 6.0]))(BLANK)
    assert predictions.dtype == np.float32
    np.testing.assert_array_equal(predictions, np.full((5, 1), 3))


def test_multi_hot_is_what_a_network_sees() -> None:
    ranks = [[1, 1, NUM_WORDS - 4], [NUM_WORDS - 3, 88_000], [], RANDOM.integers(1, 88_584, 500).tolist()]
    texts = Sequences.from_ranks(ranks)
    np.testing.assert_array_equal(multi_hot(texts).toarray(), texts.batch(np.arange(4)))
    assert multi_hot(texts).dtype == np.float32


def test_linear_learns_words() -> None:
    for classes in (2, 3):
        targets = RANDOM.integers(0, classes, 300)
        predict = linear(_texts(targets), targets, classes)
        tested = RANDOM.integers(0, classes, 50)
        predictions = predict(_texts(tested, seed=1))
        assert predictions.shape == (50, 1 if classes == 2 else 3)
        assert classification(predictions, tested, "abc"[:classes]).accuracy > 0.95


def test_linear_learns_words_worth_a_number() -> None:
    targets = RANDOM.integers(0, 5, 300).astype(float)
    predictions = linear(_texts(targets), targets)(_texts(targets[:20], seed=1))
    assert regression(predictions, targets[:20]).mae < 0.3


def test_linear_learns_images() -> None:
    targets = RANDOM.integers(0, 3, 200)
    images = RANDOM.integers(0, 40, (200, 4, 4), np.uint8)
    images[np.arange(200), targets, 0] = 255
    predictions = linear(Table(images), targets, 3)(Table(images))
    assert classification(predictions, targets, "abc").accuracy > 0.99


def test_linear_does_not_mind_units() -> None:
    features = RANDOM.normal(size=(60, 3)).astype(np.float32)
    targets = features @ [1.0, -2.0, 0.5] + 4
    expected = linear(Table(features), targets)(Table(features))
    np.testing.assert_allclose(expected[:, 0], targets, rtol=1e-5)
    scaled = Table(features * np.float32([1e3, 1e-3, 1]) + np.float32([500, 0, 0]))
    np.testing.assert_allclose(linear(scaled, targets)(scaled), expected, atol=1e-3)
    sides = (targets > 4).astype(int)
    assert classification(linear(scaled, sides, 2)(scaled), sides, "ab").accuracy > 0.9


def test_a_feature_that_never_varies() -> None:
    features = np.ones((20, 2), np.float32)
    features[:, 0] = np.arange(20)
    predictions = linear(Table(features), np.arange(20.0))(Table(features))
    np.testing.assert_allclose(predictions[:, 0], np.arange(20), atol=1e-4)


def test_a_class_that_training_does_not_hold_has_probability_0() -> None:
    targets = np.array([0, 2] * 20)
    predictions = linear(_texts(targets), targets, 5)(_texts(targets))
    assert predictions.shape == (40, 5)
    np.testing.assert_array_equal(predictions[:, [1, 3, 4]], 0)
    np.testing.assert_allclose(predictions.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "classes", "names", "columns"),
    [
        ("binary-classification", None, ["majority", "at_random", "linear"], 1),
        ("multiclass-classification", None, ["majority", "at_random", "linear"], 3),  # as training targets say
        ("multiclass-classification", 4, ["majority", "at_random", "linear"], 4),
        ("regression", None, ["mean", "linear"], 1),
    ],
)
def test_all_for_each_task(task: Task, classes: int | None, names: list[str], columns: int) -> None:
    targets = np.array([0, 1, 1, 0, 1] * 8)
    if task == "multiclass-classification" and classes is None:
        targets[0] = 2
    found = all_for(task, _texts(targets), targets, _texts(targets[:7]), classes=classes)
    again = all_for(task, _texts(targets), targets, _texts(targets[:7]), classes=classes)
    assert list(found) == [each.name for each in found.values()] == names
    for name, baseline in found.items():
        assert baseline.predictions.shape == (7, columns)
        assert baseline.predictions.dtype == np.float32
        np.testing.assert_array_equal(baseline.predictions, again[name].predictions)
        assert baseline.description


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(TrainingError, match="5 samples and 4 targets"):
        all_for("regression", BLANK, np.zeros(4), BLANK)
    with pytest.raises(TrainingError, match="found one class"):
        linear(BLANK, np.zeros(5, int), 2)
    with pytest.raises(TrainingError, match="targets must be below 3, the number of classes: found 3"):
        linear(BLANK, np.array([0, 1, 2, 3, 0]), 3)


def test_real_reviews(real_reviews: Data) -> None:
    data = real_reviews
    split = hold_out(len(data.y_train), 10_000)[0]
    held_out, targets = data.x_train.take(split.validation), data.y_train[split.validation]
    found = all_for("binary-classification", data.x_train.take(split.train), data.y_train[split.train], held_out)
    accuracy = {
        name: classification(each.predictions, targets, ["negative", "positive"]).accuracy
        for name, each in found.items()
    }
    assert accuracy == pytest.approx({"majority": 0.4947, "at_random": 0.5, "linear": 0.881}, abs=0.02)


def test_real_houses(real_data: Path) -> None:
    data = load(BOSTON_HOUSING, real_data)
    split = hold_out(len(data.y_train), 101)[0]
    held_out = data.x_train.take(split.validation)
    found = all_for("regression", data.x_train.take(split.train), data.y_train[split.train], held_out)
    errors = {name: regression(each.predictions, data.y_train[split.validation]).mae for name, each in found.items()}
    assert errors == pytest.approx({"mean": 7.60, "linear": 3.46}, abs=0.01)
