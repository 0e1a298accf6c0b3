"""Training sees each sample once an epoch, never what is held out, and ends the same each time."""

import argparse
import dataclasses
import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from training import fit as module
from training.data import Array, Data, Table, load
from training.errors import TrainingError
from training.evaluate import evaluate, predict
from training.fit import Batches, fit, train, validate
from training.models import DIGITS, HOUSE_PRICE, Recipe
from training.options import Options, Precision, add_arguments, from_arguments
from training.packaging.export import Training, export, graph_of
from training.packaging.package import write
from training.precision import twin
from training.runs import Epoch

from .conftest import Tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, saving


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
    recipe = dataclasses.replace(tiny.recipes["house_price"], folds=4)
    seen: list[tuple[Array, Array]] = []

    def train_(_: Recipe, x: Table, y: Array, *__: object) -> Array:
        seen.append((x.values[:, 0], y))
        return x.values

    def predict_(_: Recipe, __: Array, x: Table) -> Array:
        seen.append((x.values[:, 0], np.array([])))
        return np.zeros((len(x), 1))

    monkeypatch.setattr(module, "train", train_)
    monkeypatch.setattr(module, "predict", predict_)
    x, y = numbers(10), np.arange(10)

    validation = validate(recipe, x, y, silent)
    held_out = [values.tolist() for values, _ in seen[1::2]]
    assert [sorted({*kept, *out}) for (kept, _), (out, _) in zip(seen[::2], seen[1::2], strict=True)] == [
        list(range(10))
    ] * 4
    assert all(
        len(kept) == len(labels) == 10 - len(out) for (kept, labels), out in zip(seen[::2], held_out, strict=True)
    )
    assert sorted(itertools.chain(*held_out)) == list(range(10))  # each sample is held out once
    assert "4-fold" in validation.protocol
    assert validation.figures["mae"] == pytest.approx(np.mean([np.mean(out) for out in held_out]))

    seen.clear()
    validation = validate(dataclasses.replace(recipe, folds=0, validation_samples=3), x, y, silent)
    assert [values.tolist() for values, _ in seen] == [[3, 4, 5, 6, 7, 8, 9], [0, 1, 2]]
    assert "first 3" in validation.protocol


def test_the_same_weights_twice(house: tuple[Recipe, Data]) -> None:
    recipe, data = house
    first, second = (train(recipe, data.x_train, data.y_train, "final", silent).get_weights() for _ in range(2))
    other = train(dataclasses.replace(recipe, seed=1), data.x_train, data.y_train, "final", silent).get_weights()
    assert [weight.tobytes() for weight in first] == [weight.tobytes() for weight in second]
    assert [weight.tobytes() for weight in first] != [weight.tobytes() for weight in other]


def test_a_hidden_gpu_changes_nothing(house: tuple[Recipe, Data], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras takes any GPU of the machine, hidden or not, for a reason to use XLA, unless ops are deterministic."""
    recipe, data = house
    physical = tf.config.list_physical_devices()
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [] if kind else [*physical, gpu])
    network = train(recipe, data.x_train, data.y_train, "final", silent)
    assert not network.jit_compile


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
    graph = graph_of(recipe, data, fitted.network, predict(recipe, fitted.network, data.x_test))
    exported = export(recipe, data, fitted.network, graph, 1, training)
    assert exported.test["accuracy"] > 0.8
    write(tmp_path / "digits" / "1", exported.files, replace=True)
    manifest, _, test = evaluate(tmp_path / "digits" / "1", real_digits)
    assert manifest.labels == tuple("0123456789")
    assert len(manifest.golden.inputs["pixels"]) == 10
    assert test["accuracy"] > 0.8


def test_fit_reports_each_epoch_and_leaves_the_test_set_alone(house: tuple[Recipe, Data]) -> None:
    recipe, data = house
    untouched = dataclasses.replace(data, x_test=None, y_test=None)  # type: ignore[arg-type]
    reports: list[tuple[str, int, int]] = []
    fitted = fit(recipe, untouched, lambda epoch: reports.append((epoch.stage, epoch.done, epoch.of)))
    stages = [*(f"fold {fold}/2" for fold in (1, 2)), "final"]
    assert reports == [(stage, done, 2) for stage in stages for done in (1, 2)]
    assert fitted.validation.keys() == {"mae", "mse"}
    assert fitted.training_seconds > 0


SMALL = dataclasses.replace(HOUSE_PRICE, hidden=(8,), epochs=6, batch_size=8, folds=2)


@pytest.fixture(scope="module")
def plane() -> Data:
    """Houses whose price is their first feature."""
    x = Table(np.random.default_rng(0).normal(3, 2, (40, 13)).astype(np.float32))
    return Data(x, x.values[:, 0].copy(), None, None, {}, [], {})  # type: ignore[arg-type]


def test_tensorboard_reads_what_is_logged(plane: Data, tmp_path: Path) -> None:
    told: dict[tuple[str, int], dict[str, float]] = {}

    def report(epoch: Epoch) -> None:
        told[epoch.stage, epoch.done] = epoch.figures

    fit(SMALL, plane, report, Options(tensorboard=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"fold-1-of-2", "fold-2-of-2", "final"}
    for stage, name, part in [("fold 2/2", "fold-2-of-2/validation", "val_"), ("final", "final/train", "")]:
        log = EventAccumulator(str(tmp_path / name)).Reload()
        events = log.Tensors("epoch_loss")
        logged = [float(tensor_util.make_ndarray(event.tensor_proto)) for event in events]
        assert [event.step for event in events] == list(range(SMALL.epochs))
        assert logged == pytest.approx([told[stage, epoch + 1][f"{part}loss"] for epoch in range(SMALL.epochs)])
        assert "epoch_mae" in log.Tags()["tensors"]


def test_early_stopping_keeps_the_best_epoch_and_the_final_network_trains_as_long(plane: Data) -> None:
    # What is right for one half is wrong for the other: the more is learnt, the worse it gets.
    signs = np.repeat(np.float32([1, -1]), 20)
    opposite = dataclasses.replace(plane, y_train=plane.y_train * signs)
    recipe = dataclasses.replace(SMALL, epochs=20)
    losses: dict[str, list[float]] = {}

    def report(epoch: Epoch) -> None:
        losses.setdefault(epoch.stage, []).append(epoch.figures.get("val_loss", np.nan))

    fitted = fit(recipe, opposite, report, Options(early_stopping=3))
    folds = [losses["fold 1/2"], losses["fold 2/2"]]
    best = [int(np.argmin(fold)) + 1 for fold in folds]
    assert [len(fold) for fold in folds] == [epoch + 3 for epoch in best], "stops three epochs after the best"
    assert fitted.epochs == len(losses["final"]) == round(np.mean(best))
    assert "patience of 3" in fitted.protocol
    # The figures are those of the best epochs, not of the last ones.
    assert fitted.validation["mse"] == pytest.approx(np.mean([min(fold) for fold in folds]), rel=1e-4)


def test_checkpoints_are_the_best_and_the_last_network(plane: Data, tmp_path: Path) -> None:
    x, y = plane.x_train, plane.y_train
    losses: list[float] = []
    held_out = (x.take(np.arange(10)), y[:10][::-1].copy())  # wrong targets: it gets worse as it learns

    def report(epoch: Epoch) -> None:
        losses.append(epoch.figures["val_loss"])

    options = Options(checkpoints=tmp_path)
    network = train(dataclasses.replace(SMALL, optimizer="adam"), x, y, "fold 1/2", report, held_out, options)
    saved = {name: keras.saving.load_model(tmp_path / "fold-1-of-2" / f"{name}.keras") for name in ("best", "last")}
    for name, loss in (("best", min(losses)), ("last", losses[-1])):
        outputs = saved[name].predict(held_out[0].batch(np.arange(10)), verbose=0)[:, 0]
        assert np.square(outputs - held_out[1]).mean() == pytest.approx(loss, rel=1e-4)
    assert_same(saved["last"].get_weights(), network.get_weights())

    train(SMALL, x, y, "final", silent, options=options)
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["last.keras"]  # nothing says which is best


def test_mixed_precision_gives_a_float32_network_that_has_learnt(plane: Data) -> None:
    recipe = dataclasses.replace(SMALL, epochs=4)
    x, y = plane.x_train, plane.y_train
    losses: list[float] = []

    def report(epoch: Epoch) -> None:
        losses.append(epoch.figures["loss"])

    precisions: tuple[Precision, ...] = ("float32", "float16")
    full, mixed = (train(recipe, x, y, "s", report, options=Options(precision=each)) for each in precisions)
    assert losses[7] == pytest.approx(losses[3], rel=0.05)
    assert losses[7] < losses[4]
    assert {layer.compute_dtype for layer in mixed.layers} == {"float32"}
    assert [weight.dtype for weight in mixed.get_weights()] == [weight.dtype for weight in full.get_weights()]
    for expected, got in zip(full.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, atol=0.05)
    assert any((expected != got).any() for expected, got in zip(full.get_weights(), mixed.get_weights(), strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_computes_in_it_between_scaling_and_output(precision: Precision, plane: Data) -> None:
    network = SMALL.network(plane.x_train, plane.y_train)
    copy = twin(network, precision, "mae")
    assert [layer.compute_dtype for layer in copy.layers] == ["float32", precision, "float32"]
    assert_same(copy.get_weights(), network.get_weights())
    rows = plane.x_train.batch(np.arange(40))
    np.testing.assert_allclose(np.asarray(copy(rows)), np.asarray(network(rows)), atol=0.02)


def test_logs_and_checkpoints_leave_the_weights_as_they_are(plane: Data, tmp_path: Path) -> None:
    x, y = plane.x_train, plane.y_train
    plain, watched = (
        train(SMALL, x, y, "final", silent, options=options)
        for options in (Options(), Options(tensorboard=tmp_path / "logs", checkpoints=tmp_path / "checkpoints"))
    )
    assert_same(plain.get_weights(), watched.get_weights())


def assert_same(first: list[Array], second: list[Array]) -> None:
    assert [weight.tobytes() for weight in first] == [weight.tobytes() for weight in second]


def test_parts_of_a_batch_are_the_batch() -> None:
    recipe = dataclasses.replace(TEN, missing=0.5)
    whole = Batches(TEN, numbers(10), np.arange(10), seed=0)
    parts = [Batches(recipe, numbers(10), np.arange(10), 0, index, 3) for index in range(3)]
    for _ in range(2):  # the order stays the same on every device, whatever each of them hides
        for batch in range(len(whole)):
            taken = [part[batch][1].tolist() for part in parts]
            assert sorted(itertools.chain(*taken)) == sorted(whole[batch][1].tolist())
            assert [part.size(batch) for part in parts] == [len(whole[batch][1])] * 3
        for batches in (whole, *parts):
            batches.on_epoch_end()
    assert len(parts[2][2][1]) == 0  # two samples are left for three devices


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TrainingError, match="early stopping after 0 epochs"):
        Options(early_stopping=0)


def test_flags_become_options() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert from_arguments(parser.parse_args([])) == Options()
    flags = "--tensorboard a --checkpoints b --early-stopping 2 --precision bfloat16 --distribute mirrored"
    assert from_arguments(parser.parse_args(flags.split())) == Options(Path("a"), Path("b"), 2, "bfloat16", "mirrored")


@pytest.mark.parametrize("options", [Options(precision="float16"), Options(distribute="mirrored")])
def test_recipes_with_networks_of_their_own_are_trained_plainly(options: Options, plane: Data) -> None:
    class Own(Recipe):
        pass

    own = Own(**vars(SMALL))
    with pytest.raises(TrainingError, match="add --recipe book"):
        train(own, plane.x_train, plane.y_train, "final", silent, options=options)
