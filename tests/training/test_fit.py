"""Training sees each sample once an epoch, never what is held out, and ends the same each time."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from training import fit as module
from training.data import Array, Data, Table, load
from training.evaluate import evaluate, predict
from training.fit import Batches, fit, train, validate
from training.models import DIGITS, HOUSE_PRICE, Recipe
from training.packaging.export import Training, export
from training.packaging.package import write

from .conftest import Tiny


@pytest.fixture(scope="module")
def house(tiny: Tiny) -> tuple[Recipe, Data]:
    recipe = tiny.recipes["house_price"]
    return recipe, load(recipe.dataset, tiny.data)


def silent(*_: object) -> None: ...


TEN = dataclasses.replace(HOUSE_PRICE, batch_size=4)


def numbers(count: int) -> Table:
    return Table(np.arange(count, dtype=np.float32)[:, None])


def epoch(batches: Batches) -> list[float]:
    parts = [batches[number] for number in range(len(batches))]
    for x, y in parts:
        np.testing.assert_array_equal(x[:, 0], y)
    batches.on_epoch_end()
    return [float(value) for _, y in parts for value in y]


def test_an_epoch_is_every_sample_once_in_a_new_order() -> None:
    batches = Batches(TEN, numbers(10), np.arange(10), seed=0)
    first, second = epoch(batches), epoch(batches)
    assert [len(batches[number][1]) for number in range(len(batches))] == [4, 4, 2]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert epoch(Batches(TEN, numbers(10), np.arange(10), seed=0)) == first
    assert epoch(Batches(TEN, numbers(10), np.arange(10), seed=1)) != first


def test_held_out_samples_are_not_trained_on(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipes["house_price"]
    seen: list[tuple[Array, Array]] = []

    def train_(_: Recipe, x: Table, y: Array, *__: object) -> Array:
        seen.append((x.values[:, 0], y))
        return x.values

    def predict_(_: Array, x: Table) -> Array:
        seen.append((x.values[:, 0], np.array([])))
        return np.zeros((len(x), 1))

    monkeypatch.setattr(module, "train", train_)
    monkeypatch.setattr(module, "predict", predict_)
    x, y = numbers(10), np.arange(10)

    scores, protocol = validate(recipe, x, y, silent)
    held_out = [values.tolist() for values, _ in seen[1::2]]
    assert [sorted({*kept, *out}) for (kept, _), (out, _) in zip(seen[::2], seen[1::2], strict=True)] == [
        list(range(10))
    ] * 4
    assert all(
        len(kept) == len(labels) == 10 - len(out) for (kept, labels), out in zip(seen[::2], held_out, strict=True)
    )
    assert sorted(itertools.chain(*held_out)) == list(range(10))  # each sample is held out once
    assert "4-fold" in protocol
    assert scores["mae"] == pytest.approx(np.mean([np.mean(out) for out in held_out]))

    seen.clear()
    _, protocol = validate(dataclasses.replace(recipe, folds=0, validation_samples=3), x, y, silent)
    assert [values.tolist() for values, _ in seen] == [[3, 4, 5, 6, 7, 8, 9], [0, 1, 2]]
    assert "first 3" in protocol


def test_the_same_weights_twice(house: tuple[Recipe, Data]) -> None:
    recipe, data = house
    first, second = (train(recipe, data.x_train, data.y_train, "final", silent).get_weights() for _ in range(2))
    other = train(dataclasses.replace(recipe, seed=1), data.x_train, data.y_train, "final", silent).get_weights()
    assert [weight.tobytes() for weight in first] == [weight.tobytes() for weight in second]
    assert [weight.tobytes() for weight in first] != [weight.tobytes() for weight in other]


def test_digits_are_learnt_and_packaged(real_digits: Path, tmp_path: Path) -> None:
    """The book's network on a twentieth of its data, for two epochs, through to a package that answers as it does."""
    recipe = dataclasses.replace(DIGITS, epochs=2, validation_samples=500)
    whole = load(recipe.dataset, real_digits)
    some = np.arange(3_000)
    data = dataclasses.replace(
        whole,
        x_train=whole.x_train.take(some),
        y_train=whole.y_train[some],
        x_test=whole.x_test.take(some[:1_000]),
        y_test=whole.y_test[some[:1_000]],
    )
    fitted = fit(recipe, data, silent)
    assert fitted.validation["accuracy"] > 0.8  # a tenth by chance
    training = Training(fitted.validation, fitted.protocol, {})
    exported = export(recipe, data, fitted.network, predict(recipe, fitted.network, data.x_test), 1, training)
    assert exported.test["accuracy"] > 0.8
    write(tmp_path / "digits" / "1", exported.files)
    manifest, _, test = evaluate(tmp_path / "digits" / "1", real_digits)
    assert manifest.labels == tuple("0123456789")
    assert len(manifest.golden.inputs["pixels"]) == 10
    assert test["accuracy"] > 0.8


def test_fit_reports_each_epoch_and_leaves_the_test_set_alone(house: tuple[Recipe, Data]) -> None:
    recipe, data = house
    untouched = dataclasses.replace(data, x_test=None, y_test=None)  # type: ignore[arg-type]
    reports: list[tuple[str, int, int]] = []
    fitted = fit(recipe, untouched, lambda stage, done, of, figures: reports.append((stage, done, of)))
    stages = [*(f"fold {fold}/4" for fold in (1, 2, 3, 4)), "final"]
    assert reports == [(stage, done, 2) for stage in stages for done in (1, 2)]
    assert fitted.validation.keys() == {"mae", "mse"}
    assert fitted.training_seconds > 0
