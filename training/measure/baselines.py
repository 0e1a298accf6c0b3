"""Baselines: what a model must beat to have learned something, fitted on training samples only.

Source: Chollet, Deep Learning with Python, 2nd ed., §5.2.2 (beating a common-sense baseline).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.package.manifest import Task
from training.data import NUM_WORDS, OUT_OF_VOCABULARY, Array, Sequences, Table
from training.errors import TrainingError

INVERSE_PENALTY = 0.1
"""C of the logistic regression. Of 0.01, 0.1 and 1, the best for reviews on a fifth of their training samples; best of
0.1, 1 and 10 for wires, and good for digits."""
STEPS = 100
"""Of its solver at most: digits would take hundreds, and gain nothing."""
WHITE = 255
"""The largest grey value."""

Predictor = Callable[[Sequences | Table], Array]
"""Gives float32 [N, C], or [N, 1] for two classes and for numbers: the shape of a network's outputs."""


@dataclass(frozen=True)
class Baseline:
    """A baseline's predictions."""

    name: str
    description: str
    """How it predicts, for people."""
    predictions: Array
    """float32 [N, C] or [N, 1]."""


def majority(y_train: Array, classes: int) -> Predictor:
    """Each class with its share of the training targets, so that the commonest is always guessed."""
    return _fit(DummyClassifier(strategy="prior"), None, y_train, classes)


def at_random(y_train: Array, classes: int, seed: int = 0) -> Predictor:
    """A class drawn for each sample, as often as it occurs in the training targets, and given probability 1."""
    return _fit(DummyClassifier(strategy="stratified", random_state=seed), None, y_train, classes)


def mean_predictor(y_train: Array) -> Predictor:
    """The mean of the training targets."""
    return _fit(DummyRegressor(strategy="mean"), None, y_train, None)


def linear(x_train: Sequences | Table, y_train: Array, classes: int | None = None) -> Predictor:
    """A linear model: logistic regression where there are classes, else linear regression.

    Texts are multi-hot as the networks see them, images scaled to 0 to 1, other numbers standardised on the training
    samples. Least squares is penalised (ridge, alpha 1) for texts and images, whose columns outnumber samples.

    Args:
        x_train: training samples.
        y_train: [N], their classes from 0, or their values.
        classes: how many; None means that targets are numbers.

    Raises:
        TrainingError: samples and targets don't go together, or fewer than two classes occur.
    """
    is_plain = _is_plain(x_train)
    model: Any
    if classes is None:
        # The solver that "auto" takes for sparse rows, named so that it stays the same.
        solver = "sparse_cg" if isinstance(x_train, Sequences) else "auto"
        model = LinearRegression() if is_plain else Ridge(alpha=1, solver=solver)
    elif len(np.unique(y_train)) < 2:
        raise TrainingError("a linear classifier needs training samples of two classes at least: found one class")
    else:
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=STEPS)
    return _fit(make_pipeline(StandardScaler(), model) if is_plain else model, x_train, y_train, classes)


def all_for(
    task: Task,
    x_train: Sequences | Table,
    y_train: Array,
    x_test: Sequences | Table,
    *,
    classes: int | None = None,
    seed: int = 0,
) -> dict[str, Baseline]:
    """The predictions of every baseline for `task`, by name, the simplest first.

    Args:
        task: as in a package's manifest.
        x_train: training samples.
        y_train: [N], their targets.
        x_test: the samples to predict.
        classes: of a network with more than two; None means as many as training targets say.
        seed: of the random guesses.

    Raises:
        TrainingError: samples and targets don't go together.
    """
    if len(x_train) != len(y_train) or not len(y_train):
        raise TrainingError(f"{len(x_train):,} samples and {len(y_train):,} targets: expected as many, at least 1")
    predictors: dict[str, tuple[str, Predictor]]
    if task == "regression":
        predictors = {
            "mean": ("the mean of the training targets", mean_predictor(y_train)),
            "linear": ("linear regression", linear(x_train, y_train)),
        }
    else:
        count = 2 if task == "binary-classification" else classes or int(y_train.max()) + 1
        predictors = {
            "majority": ("the commonest class of the training targets", majority(y_train, count)),
            "at_random": ("classes drawn as often as in training", at_random(y_train, count, seed)),
            "linear": (
                f"logistic regression, C = {INVERSE_PENALTY:g}, {STEPS} steps at most",
                linear(x_train, y_train, count),
            ),
        }
    return {
        name: Baseline(name, description, predictor(x_test)) for name, (description, predictor) in predictors.items()
    }


def multi_hot(texts: Sequences) -> Any:
    """SciPy CSR float32 [N, NUM_WORDS], what `Sequences.batch` gives, at a hundredth of its size."""
    columns = np.where(texts.ids < NUM_WORDS, texts.ids, OUT_OF_VOCABULARY)
    rows = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, texts.offsets), shape=(len(texts), NUM_WORDS))
    rows.sum_duplicates()
    rows.data[:] = 1
    return rows


def _is_plain(x: Sequences | Table) -> bool:
    """Whether samples are numbers in units of their own, neither words nor grey values."""
    return isinstance(x, Table) and x.values.dtype != np.uint8


def _matrix(x: Sequences | Table) -> Any:
    """[N, columns], dense or sparse."""
    if isinstance(x, Sequences):
        return multi_hot(x)
    flat = x.values.reshape(len(x), -1)
    return flat.astype(np.float64) if _is_plain(x) else flat.astype(np.float32) / np.float32(WHITE)


def _fit(model: Any, x: Sequences | Table | None, y: Array, classes: int | None) -> Predictor:
    """A scikit-learn model fitted; without `x`, one that looks at targets only."""
    if classes is not None and y.max() >= classes:
        raise TrainingError(f"targets must be below {classes}, the number of classes: found {y.max()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # STEPS are enough, as it says
        model.fit(_blank(len(y)) if x is None else _matrix(x), y)

    def predict(samples: Sequences | Table) -> Array:
        rows = _blank(len(samples)) if x is None else _matrix(samples)
        if classes is None:
            return np.asarray(model.predict(rows), np.float32).reshape(-1, 1)
        # Classes that training doesn't hold have no column of the model's; theirs stay 0.
        probabilities = np.zeros((len(samples), classes), np.float32)
        probabilities[:, model.classes_.astype(np.int64)] = model.predict_proba(rows)
        return probabilities[:, 1:] if classes == 2 else probabilities

    return predict


def _blank(rows: int) -> Array:
    return np.zeros((rows, 1), np.float32)
