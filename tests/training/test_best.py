"""The better recipes learn from training samples alone, give the same bytes twice, and say all that they are."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from serving.package.manifest import MANIFEST, MODEL, Manifest, parse
from training.best import BEST, EnsembleRecipe, Prices, TermsRecipe, terms_of
from training.data import Array, Data, DataFile, Inputs, Sequences, Table, load
from training.errors import ExportError, TrainingError
from training.evaluate import predict
from training.fit import train
from training.job import Job, Outcome, run
from training.models import RECIPES, Network, Recipe, build
from training.options import Options
from training.packaging.saved import load_network, save_network
from training.terms import Terms, length

from .conftest import Tiny

NAMES = list(BEST)
TEXTS = ["sentiment", "topic"]

# Keras's own, where it saves: TensorFlow's variables are older than NumPy 2.
saving = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def silent(*_: object) -> None: ...


@dataclasses.dataclass(frozen=True)
class Case:
    recipe: Recipe
    data: Data
    network: Network
    """Trained on the training samples; finished."""

    def train(self, held_out: tuple[Inputs, Array] | None = None) -> Network:
        return train(self.recipe, self.data.x_train, self.data.y_train, "final", silent, held_out)


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tiny: Tiny) -> Case:
    recipe = tiny.best[request.param]
    data = load(recipe.dataset, tiny.data)
    return Case(recipe, data, train(recipe, data.x_train, data.y_train, "final", silent))


def assert_same(first: Network, second: Network, same: bool = True) -> None:
    ours, others = ([weight.tobytes() for weight in network.get_weights()] for network in (first, second))
    assert (ours == others) is same


def test_answers(case: Case) -> None:
    recipe = case.recipe
    answers = predict(recipe, case.network, case.data.x_test)
    assert answers.shape == (len(case.data.x_test), recipe.outputs)
    assert answers.dtype == np.float32
    assert np.isfinite(answers).all()
    assert len(np.unique(answers[:, 0])) > 10, "what is told apart"
    if recipe.task != "regression":
        assert ((answers > 0) & (answers < 1)).all()
    if recipe.outputs > 1:
        np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_the_same_weights_twice_whatever_is_held_out(case: Case) -> None:
    x, y = case.data.x_test, case.data.y_test  # not seen in training, so anything may be held out
    assert_same(case.network, case.train((x, y)))
    # No text of these has a word.
    other = Sequences.from_ranks([[]] * len(x)) if isinstance(x, Sequences) else Table(-1e3 * np.asarray(x.values))
    assert_same(case.network, case.train((other, y[::-1].copy())))


def test_a_network_begins_with_its_samples_as_it_takes_them(case: Case) -> None:
    x, y = case.data.x_train, case.data.y_train
    keras.utils.set_random_seed(0)
    network, encoded = case.recipe.begin(x, y)
    keras.utils.set_random_seed(0)
    assert_same(network, case.recipe.network(x, y))
    wanted = case.recipe.encode(x, network)
    if isinstance(encoded, Terms):
        assert isinstance(wanted, Terms)
        np.testing.assert_array_equal(encoded.counts.toarray(), wanted.counts.toarray())
    else:
        assert encoded is wanted is x


def test_what_is_known_of_the_data_is_known_of_all_of_it(case: Case) -> None:
    some = np.arange(len(case.data.y_train) // 2)
    x, y = case.data.x_train.take(some), case.data.y_train[some]
    of_some, of_all = case.recipe.network(x, y), case.recipe.network(case.data.x_train, case.data.y_train)
    if isinstance(case.recipe, TermsRecipe):
        assert isinstance(case.data.x_train, Sequences)
        keys = set(np.asarray(terms_of(of_some).keys).tolist())
        assert keys < set(np.asarray(terms_of(of_all).keys).tolist())
        words = set(case.data.x_train.ids.tolist()) - {1}
        assert set(case.recipe.known(of_all).tolist()) == words
    else:
        assert isinstance(x, Table)
        logs = of_some.layers[1]
        np.testing.assert_allclose(np.asarray(logs.means), x.values.mean(axis=0), rtol=1e-5)
        prices = np.log(case.data.y_train[some].astype(np.float64))
        assert (of_some.prices.mean, of_some.prices.spread) == pytest.approx((prices.mean(), prices.std()))


@saving
def test_a_saved_network_answers_as_before(case: Case, tmp_path: Path) -> None:
    save_network(case.network, tmp_path / "saved.keras")
    loaded = load_network(tmp_path / "saved.keras")
    expected, got = (predict(case.recipe, network, case.data.x_test) for network in (case.network, loaded))
    np.testing.assert_array_equal(got, expected)


@saving
@pytest.mark.parametrize("case", ["topic", "house_price"], indirect=True)
def test_a_checkpoint_is_loaded_and_told_from_a_finished_network(case: Case, tmp_path: Path, tiny: Tiny) -> None:
    some, options = np.arange(40), Options(checkpoints=tmp_path)
    train(case.recipe, case.data.x_train.take(some), case.data.y_train[some], "s", silent, options=options)
    with pytest.raises(ExportError, match="does not end in softmax" if case.recipe.is_text else "not .*, 1"):
        run(Job(case.recipe, data=tiny.data, out=tmp_path / "m", network=tmp_path / "s" / "last.keras"))
    assert not (tmp_path / "m").exists()


@saving
def test_a_network_of_the_book_is_not_one_over_terms(tiny: Tiny, tmp_path: Path) -> None:
    save_network(build(tiny.recipes["topic"]), tmp_path / "book.keras")
    with pytest.raises(ExportError, match=r"topic: the network knows no terms: .*--recipe book"):
        run(Job(tiny.best["topic"], data=tiny.data, out=tmp_path, network=tmp_path / "book.keras"))


# What recipes say of themselves.


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_are_json_and_complete(name: str) -> None:
    recipe = BEST[name]
    said = recipe.hyperparameters
    assert json.loads(json.dumps(said)).keys() == said.keys()
    # What isn't said is what a recipe is told by, or how it is validated, or the default.
    identity = {"name", "task", "dataset", "features", "outputs", "metric", "output", "labels", "book", "input"}
    identity |= {"image", "seed", "variant", "validation_samples", "folds", "iterations"}
    for field in dataclasses.fields(recipe):
        if field.name not in {*identity, *said}:
            assert getattr(recipe, field.name) == field.default, field.name
    changed = dataclasses.replace(recipe, l2=0.5, missing=0.25, hidden_activation="tanh").hyperparameters
    assert {"l2": 0.5, "missing": 0.25, "hidden_activation": "tanh"}.items() <= changed.items()


@pytest.mark.parametrize("name", NAMES)
def test_what_clients_see_is_the_books(name: str) -> None:
    book, best = RECIPES[name], BEST[name]
    for field in ("name", "task", "dataset", "outputs", "metric", "output", "labels", "input", "seed", "book"):
        assert getattr(best, field) == getattr(book, field), field
    assert (best.validation_samples, best.folds) == (book.validation_samples, book.folds)
    assert (book.variant, best.variant) == ("book", "best")


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_falls_to_nothing(name: str) -> None:
    recipe = dataclasses.replace(BEST[name], epochs=3, batch_size=10)
    optimizer = recipe.falling_rate(25)
    assert type(optimizer) is {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[recipe.optimizer]
    rates = []
    for step in range(10):  # three batches an epoch, the last of them smaller
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates[0] == pytest.approx(recipe.rate)
    assert all(before > after for before, after in itertools.pairwise(rates))
    assert rates[8] > 0.01 * recipe.rate
    assert rates[9] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_other_inputs_are_refused(name: str) -> None:
    wrong = Table(np.zeros((2, 13), np.float32)) if name in TEXTS else Sequences.from_ranks([[1], [2]])
    with pytest.raises(TypeError):
        BEST[name].network(wrong, np.zeros(2))
    with pytest.raises(TypeError):
        BEST[name].begin(wrong, np.zeros(2))


# One by one.


def texts_that_say_it(count: int) -> tuple[Sequences, Array]:
    """Texts of the same words, the class in their order alone."""
    random, y = np.random.default_rng(0), np.arange(count) % 2
    orders = ([7, 8], [8, 7])
    ranks = [[*random.integers(10, 40, 5).tolist(), *orders[label], int(random.integers(10, 40))] for label in y]
    return Sequences.from_ranks(ranks), y


@pytest.mark.parametrize(("longest", "is_learnt"), [(1, False), (2, True)])
def test_runs_of_words_say_what_words_do_not(longest: int, is_learnt: bool, tiny: Tiny) -> None:
    recipe = dataclasses.replace(tiny.best["sentiment"], longest_run=longest, epochs=8, batch_size=8)
    x, y = texts_that_say_it(200)
    network = train(recipe, x.take(np.arange(120)), y[:120], "s", silent)
    right = (predict(recipe, network, x.take(np.arange(120, 200)))[:, 0] > 0.5) == y[120:]
    assert bool(right.mean() > 0.95) is is_learnt


def test_rare_runs_are_no_terms(tiny: Tiny) -> None:
    recipe = dataclasses.replace(tiny.best["sentiment"], least=3)
    x, y = Sequences.from_ranks([[1, 2, 9], [3, 1, 2], [4, 1, 2], [5, 6, 7]]), np.array([0, 1, 0, 1])
    keys = np.asarray(terms_of(recipe.network(x, y)).keys)
    assert length(keys).tolist() == [1] * 8 + [2]


def test_a_hinge_is_trained_on_sums_and_answers_with_sharper_shares(tiny: Tiny) -> None:
    recipe = tiny.best["topic"]
    x, y = texts_that_say_it(20)
    network = recipe.network(x, y)
    sums = np.random.default_rng(0).normal(size=(terms_of(network).terms, 46)).astype(np.float32)
    terms_of(network).kernel.assign(sums)
    before = predict(recipe, network, x).astype(np.float64)
    assert (before < 0).any()
    sharper = np.exp(recipe.sharpness * before)
    after = predict(recipe, recipe.finished(network), x)
    np.testing.assert_allclose(after, sharper / sharper.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_prices_are_learnt_as_standardised_logarithms() -> None:
    y = np.array([5.0, 10.0, 50.0, 22.5])
    prices = Prices.of(y)
    wanted = (np.log(y) - np.log(y).mean()) / np.log(y).std()
    each = (wanted[:, None] + np.array([0.1, -0.1])).astype(np.float32)  # two members, wrong in opposite ways
    np.testing.assert_allclose(np.asarray(prices.loss(y, each)), 0.01, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(prices.mae(y, each)), 0, atol=1e-4)
    off = np.asarray(prices.mae(y[:, None], each + np.float32(np.log(1.1) / prices.spread)))
    np.testing.assert_allclose(off, 0.1 * y, rtol=1e-4)


def test_the_price_is_that_of_the_members_mean(tiny: Tiny) -> None:
    recipe = tiny.best["house_price"]
    assert isinstance(recipe, EnsembleRecipe)
    data = load(recipe.dataset, tiny.data)
    assert isinstance(data.x_train, Table)
    network = recipe.network(data.x_train, data.y_train)
    each = np.asarray(network(data.x_train.values))
    assert each.shape == (80, recipe.members)
    assert each.std(axis=1).min() > 0, "members differ"
    logarithms = np.log(data.y_train)
    expected = np.exp(each.mean(axis=1) * logarithms.std() + logarithms.mean())
    np.testing.assert_allclose(np.asarray(recipe.finished(network)(data.x_train.values))[:, 0], expected, rtol=1e-4)


# The test set.


def with_another_test_set(recipe: Recipe, folder: Path, tiny: Tiny) -> list[Recipe]:
    """`recipe` on its own data, and on data whose test samples and targets alone are others."""
    data = load(recipe.dataset, tiny.data)
    x_test, y_test = data.x_test, data.y_test[::-1].copy()
    other: Inputs
    if isinstance(x_test, Sequences):
        random = np.random.default_rng(7)
        other = Sequences.from_ranks([random.integers(1, 10_000, 30).tolist() for _ in range(len(x_test))])
    else:
        other = Table(x_test.values[::-1] // 2)
        y_test = y_test + (recipe.task == "regression")
    made = []
    for name, x, y in (("own", x_test, data.y_test), ("other", other, y_test)):
        path = folder / f"{recipe.name}-{recipe.variant}-{name}.npz"
        arrays: dict[str, Any] = {"x_train": stored(data.x_train), "x_test": stored(x)}
        np.savez(path, allow_pickle=True, y_train=data.y_train, y_test=y, **arrays)
        files: dict[str, Any] = {"arrays": DataFile(path.name, sha256(path))}
        if recipe.dataset.word_index is not None:
            index = recipe.dataset.word_index
            (folder / index.name).write_bytes((tiny.data / index.name).read_bytes())
        made.append(dataclasses.replace(recipe, dataset=dataclasses.replace(recipe.dataset, **files)))
    return made


def stored(x: Inputs) -> Array:
    """`x` as Keras's files have it."""
    if isinstance(x, Table):
        return x.values
    assert isinstance(x, Sequences)
    ranks = np.empty(len(x), object)
    ranks[:] = [(x[row][1:] - 3).tolist() for row in range(len(x))]
    return ranks


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Twice:
    """What came of a recipe on its data, and on data with another test set."""

    outcomes: list[Outcome]
    manifests: list[Manifest]


@pytest.fixture(
    scope="module",
    params=[(variant, name) for variant in ("best", "book") for name in RECIPES if variant == "book" or name in BEST],
    ids=lambda param: " ".join(param),
)
def twice(request: pytest.FixtureRequest, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    folder = tmp_path_factory.mktemp("twice")
    variant, name = request.param
    # One split of the validation is enough here.
    recipe = dataclasses.replace((tiny.best if variant == "best" else tiny.recipes)[name], folds=0, epochs=1)
    recipe = dataclasses.replace(recipe, validation_samples=30)
    outcomes = []
    for number, each in enumerate(with_another_test_set(recipe, folder, tiny)):
        outcome = run(Job(each, data=folder, out=folder / str(number)))
        assert outcome is not None
        outcomes.append(outcome)
    return Twice(outcomes, [parse((outcome.package / MANIFEST).read_bytes()) for outcome in outcomes])


def test_altering_the_test_set_changes_no_trained_byte(twice: Twice) -> None:
    first, second = ((outcome.package / MODEL).read_bytes() for outcome in twice.outcomes)
    assert first == second
    own, other = twice.manifests
    assert own.golden.inputs != other.golden.inputs, "the test sets differ"
    assert own.provenance["dataset_sha256"] != other.provenance["dataset_sha256"]
    # Nor does it change what is said of the training.
    assert validation(own) == validation(other) != {}
    for told in ("recipe", "seed", "hyperparameters"):
        assert own.provenance[told] == other.provenance[told]


def validation(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in manifest.metrics.items() if name.startswith("validation_")}


def test_a_rate_that_falls_over_all_epochs_is_not_stopped_early(tiny: Tiny) -> None:
    recipe = tiny.best["house_price"]
    data = load(recipe.dataset, tiny.data)
    with pytest.raises(TrainingError, match=r"its learning rate falls over all its epochs.*--recipe book"):
        train(recipe, data.x_train, data.y_train, "final", lambda *_: None, options=Options(early_stopping=1))
