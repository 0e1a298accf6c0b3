"""Curves are means over folds, and know where they are best."""

import numpy as np
import pytest

from training.experiments import history
from training.runs import Epoch

from .histories import made_up, valley


def test_a_curve_is_the_mean_over_the_folds() -> None:
    epochs = [
        Epoch(f"fold {fold}/2", done, 3, {"val_mae": mae})
        for fold, maes in ((1, (5.0, 1.0, 3.0)), (2, (7.0, 2.0, 5.0)))
        for done, mae in enumerate(maes, start=1)
    ]
    record = made_up("house_price", "book", [1.0], epochs=epochs)
    found = history.curve(record, "val_mae")
    assert found.epochs.tolist() == [1, 2, 3]
    assert found.values.tolist() == [6, 1.5, 4]
    assert (found.best, found.best_epoch, found.last, found.end) == (1.5, 2, 4, 3)
    assert found.rise == pytest.approx(4 / 1.5 - 1)
    assert history.folds(record, "val_mae") == [3, 5]


def test_accuracy_is_best_where_it_is_highest() -> None:
    record = made_up("topic", "book", [3, 1, 2], [0.5, 0.7, 0.9])
    assert (history.loss(record).best_epoch, history.metric(record).best_epoch) == (2, 3)
    assert history.metric(record).best == 0.9
    assert [history.loss(record).at(epoch) for epoch in (1, 3, 20)] == [3, 2, 2]


def test_a_long_regression_is_smoothed_without_its_first_epochs() -> None:
    maes = [1000.0] * 10 + [2.0, 4.0, 4.0] + [4.0] * 27
    record = made_up("house_price", "book", maes, maes)
    found = history.metric(record)
    assert found.epochs.tolist() == list(range(11, 51 - 10))
    np.testing.assert_allclose(found.values[:3], [2, 2.2, 2.38])
    assert history.curve(record, "val_mae").values[0] == 1000
    short = made_up("house_price", "book", [3.0, 2.0], [3.0, 2.0])
    assert history.metric(short).values.tolist() == [3, 2]


def test_a_classifier_is_not_smoothed() -> None:
    losses = valley(4, 1, epochs=40)
    assert history.loss(made_up("topic", "book", losses)).values.tolist() == losses
