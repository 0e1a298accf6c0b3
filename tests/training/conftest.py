"""Small synthetic data sets in Keras's file formats, and recipes that learn from them in a second or two."""

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.best import BEST, EnsembleRecipe, TermsRecipe
from training.data import DataFile, Dataset
from training.models import DIGITS, HOUSE_PRICE, SENTIMENT, TOPIC, Recipe

REPOSITORY = Path(__file__).parents[2]
WORDS = 10_100  # beyond the 10,000 columns, so that some indexed words are too rare for one
ODD_WORDS = ("don't", "café", "most\x85and", "\xa0", "\x00", "日本", "É")


@dataclasses.dataclass(frozen=True)
class Tiny:
    """The recipes on synthetic data, and the command line run with them."""

    data: Path
    recipes: dict[str, Recipe]
    """The book's."""
    best: dict[str, Recipe]

    def arguments(self, *arguments: object) -> list[str]:
        """A Python command line that is `python -m training` with these recipes in place of the real ones."""
        program = (
            "import pickle, sys; from training import __main__, best, models; "
            "book, better = pickle.loads(bytes.fromhex(sys.argv[1])); models.RECIPES.update(book); "
            "best.BEST.update(better); sys.exit(__main__.main(sys.argv[2:]))"
        )
        recipes = pickle.dumps((self.recipes, self.best)).hex()
        if arguments[0] == "fit" and "--runs" not in arguments:
            arguments = (*arguments, "--runs", self.data / "runs")
        return [sys.executable, "-c", program, recipes, *map(str, arguments), "--data", str(self.data)]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """That command line, run to its end."""
        return subprocess.run(
            self.arguments(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )

    def training_long(self, name: str) -> "Tiny":
        """The same, with a model `name` that trains for many seconds, showing progress every few."""
        return dataclasses.replace(self, best={name: dataclasses.replace(self.best[name], epochs=200)})


@pytest.fixture(scope="session")
def word_index() -> dict[str, int]:
    words = [*ODD_WORDS, *(f"w{number}" for number in range(WORDS - len(ODD_WORDS)))]
    ranks = np.random.default_rng(1).permutation(WORDS) + 1
    return dict(zip(words, ranks.tolist(), strict=True))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, word_index: dict[str, int]) -> Tiny:
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)

    def texts(count: int) -> np.ndarray:
        made = np.empty(count, dtype=object)
        made[:] = [random.integers(1, WORDS + 1, random.integers(1, 40)).tolist() for _ in range(count)]
        return made

    def save(name: str, **arrays: np.ndarray) -> DataFile:
        np.savez(folder / name, allow_pickle=True, **arrays)
        return data_file(name)

    def data_file(name: str) -> DataFile:
        return DataFile(name, hashlib.sha256((folder / name).read_bytes()).hexdigest())

    (folder / "index.json").write_text(json.dumps(word_index))
    labels = {"y_train": random.integers(0, 2, 120), "y_test": random.integers(0, 2, 60)}
    sentiment = Dataset("synthetic reviews", save("s.npz", x_train=texts(120), x_test=texts(60), **labels))
    topic = Dataset("synthetic wires", save("t.npz", x=texts(200), y=random.integers(0, 46, 200)))
    scales = 10.0 ** random.integers(-1, 3, 13)
    features = random.normal(2, 1, (100, 13)) * scales
    house = Dataset("synthetic houses", save("h.npz", x=features, y=features @ (1 / scales)))
    grey = {
        f"x_{part}": random.integers(0, 256, (rows, 28, 28), np.uint8) for part, rows in (("train", 90), ("test", 40))
    }
    classes = {f"y_{part}": random.integers(0, 10, rows, np.uint8) for part, rows in (("train", 90), ("test", 40))}
    digits = Dataset("synthetic digits", save("d.npz", **grey, **classes), shuffled=False)
    index = data_file("index.json")
    sentiment = dataclasses.replace(sentiment, word_index=index)
    topic = dataclasses.replace(topic, word_index=index)
    recipes = (
        dataclasses.replace(SENTIMENT, dataset=sentiment, validation_samples=30),
        dataclasses.replace(TOPIC, dataset=topic, validation_samples=30),
        dataclasses.replace(HOUSE_PRICE, dataset=house, folds=2),
        dataclasses.replace(DIGITS, dataset=digits, validation_samples=30),
    )
    book = {recipe.name: dataclasses.replace(recipe, epochs=2, batch_size=32) for recipe in recipes}
    return Tiny(folder, book, {name: tiny_best(BEST[name], book[name]) for name in BEST})


def tiny_best(recipe: Recipe, book: Recipe) -> Recipe:
    """`recipe`, one of the best, on the data of `book` and for as long; every run of words is a term."""
    names = ("dataset", "validation_samples", "folds", "epochs", "batch_size")
    small = dataclasses.replace(recipe, **{name: getattr(book, name) for name in names})
    if isinstance(small, TermsRecipe):
        return dataclasses.replace(small, least=1)
    assert isinstance(small, EnsembleRecipe)
    return dataclasses.replace(small, members=3, hidden=(4, 4))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets."""
    named = os.environ.get("TRIPTYCH_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "imdb.npz").exists():
        pytest.skip("the real data sets are absent: set TRIPTYCH_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def real_digits(real_data: Path) -> Path:
    """The same folder, with the digits in it."""
    if not (real_data / "mnist.npz").exists():
        pytest.skip("mnist.npz is absent: put it into the folder of the real data sets")
    return real_data
