"""Runs of each kind of task, as a fit and as an experiment leave them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from training.data import Array
from training.report.content import Content, content
from training.runs import Device, Epoch, Mistake, Record

Predicted = tuple[Array, Array]

RECORD = Record(
    model="reviews",
    recipe="book",
    seed=3,
    task="binary-classification",
    metric="accuracy",
    labels=["negative", "positive"],
    hyperparameters={"hidden": (16, 16), "optimizer": "rmsprop", "schedule": {"kind": "cosine", "steps": 7}},
    provenance={"code": "sha256:abc123", "libraries": {"keras": "3.15.1"}, "dataset": "made up"},
    protocol="the first 30 training samples, held out",
    epochs=[
        Epoch(stage, done, 3, {"loss": 1 / done, "accuracy": 0.6 + 0.1 * done} | extra, 2.0 / done, 5_000)
        for stage, held_out in (("validation", True), ("final", False))
        for done in (1, 2, 3)
        for extra in [{"val_loss": 1.5 / done, "val_accuracy": 0.5 + 0.1 * done} if held_out else {}]
    ],
    validation={"accuracy": 0.8},
    seconds=151.25,
    training_seconds=61.5,
    peak_memory_bytes=3 * 2**29,
    devices=[Device("cuda:0", "NVIDIA H200", "9.0")],
    test={"accuracy": 0.8125},
    baselines={"majority": {"accuracy": 0.5}, "linear": {"accuracy": 0.875}},
    book=0.885,
    mistakes=[Mistake(1234, "a dull film", "negative", "positive", 0.987)],
    duplicates="3 test samples are also in training",
    package="reviews/4",
    gate="not significantly worse than version 3",
)


def binary() -> tuple[Record, Predicted]:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 200)
    return RECORD, (np.clip(targets[:, None] * 0.5 + random.random((200, 1)) * 0.5, 0, 1).astype(np.float32), targets)


def multiclass(classes: int = 46) -> tuple[Record, Predicted]:
    random = np.random.default_rng(1)
    targets = random.integers(0, classes - 1, 300)  # the last class has no samples
    logits = random.normal(size=(300, classes)) + 3 * np.eye(classes)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [f"class-{number}" for number in range(classes)]
    record = dataclasses.replace(RECORD, model="wires", task="multiclass-classification", labels=labels)
    return record, (probabilities.astype(np.float32), targets)


def regression(model: str = "house_price") -> tuple[Record, Predicted]:
    random = np.random.default_rng(2)
    targets = random.uniform(5, 50, 120)
    predictions = targets + random.normal(0, 3, 120)
    epochs = [
        Epoch(f"fold {fold}/4", done, 60, {"loss": 90 / done, "val_loss": 99 / done + fold, "mae": 9, "val_mae": 9})
        for fold in (1, 2, 3, 4)
        for done in range(1, 61)
    ]
    record = dataclasses.replace(
        RECORD,
        model=model,
        task="regression",
        metric="mae",
        labels=[],
        epochs=epochs,
        validation={"mae": 2.4, "mse": 11.0},
        test={"mae": 2.5, "mse": 12.0},
        baselines={"mean": {"mae": 6.5, "mse": 80.0}},
        book=2.55,
        mistakes=[Mistake(7, "rooms 6.2", "50.0", "33.5", 16.5)],
    )
    return record, (predictions[:, None].astype(np.float32), targets)


KINDS: dict[str, Callable[[], tuple[Record, Predicted]]] = {
    "binary": binary,
    "multiclass": multiclass,
    "few classes": lambda: multiclass(10),
    "regression": regression,
    "another regression": lambda: regression("rents"),
}


@pytest.fixture(scope="session", params=KINDS)
def run(request: pytest.FixtureRequest) -> tuple[Record, Predicted]:
    """A fit's record and predictions, of each kind of task."""
    return KINDS[request.param]()


@pytest.fixture(scope="session")
def made(run: tuple[Record, Predicted]) -> Content:
    """What its report says."""
    return content(*run)
