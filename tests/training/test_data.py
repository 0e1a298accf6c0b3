"""The data sets are Keras's, bit for bit, and anything else is refused."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import ENVIRONMENT, IMDB, NUM_WORDS, OUT_OF_VOCABULARY, START, Sequences, Table, find, load
from training.errors import DataError

from .conftest import REPOSITORY, Tiny

KERAS_COMPARISON = """
import numpy as np, keras
from training.data import BOSTON_HOUSING, IMDB, MNIST, NUM_WORDS, OUT_OF_VOCABULARY, REUTERS, load

def same(sequences, lists):
    assert len(sequences) == len(lists)
    ids = np.where(sequences.ids < NUM_WORDS, sequences.ids, OUT_OF_VOCABULARY)
    assert np.array_equal(np.diff(sequences.offsets), [len(each) for each in lists])
    assert np.array_equal(ids, np.concatenate([np.asarray(each) for each in lists]))

for dataset, module, sizes in (
    (IMDB, keras.datasets.imdb, (25_000, 25_000)),
    (REUTERS, keras.datasets.reuters, (8_982, 2_246)),
):
    (x_train, y_train), (x_test, y_test) = module.load_data(num_words=NUM_WORDS)
    data = load(dataset)  # from Keras's cache: neither --data nor TRIPTYCH_DATA
    assert (len(data.y_train), len(data.y_test)) == sizes
    same(data.x_train, x_train)
    same(data.x_test, x_test)
    assert np.array_equal(data.y_train, y_train) and np.array_equal(data.y_test, y_test)
    assert data.word_index == module.get_word_index()

(x_train, y_train), (x_test, y_test) = keras.datasets.boston_housing.load_data()
data = load(BOSTON_HOUSING)
assert x_train.shape == (404, 13) and x_test.shape == (102, 13)
assert np.array_equal(data.x_train.values, x_train.astype("float32"))
assert np.array_equal(data.x_test.values, x_test.astype("float32"))
assert np.array_equal(data.y_train, y_train) and np.array_equal(data.y_test, y_test)

(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
data = load(MNIST)
assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
assert data.x_train.values.dtype == data.x_test.values.dtype == x_train.dtype == np.uint8
assert np.array_equal(data.x_train.values, x_train) and np.array_equal(data.x_test.values, x_test)
assert np.array_equal(data.y_train, y_train) and np.array_equal(data.y_test, y_test)
print("the same")
"""


def test_equals_keras(real_digits: Path, tmp_path: Path) -> None:
    cache = tmp_path / "datasets"
    cache.mkdir()
    for file in (*real_digits.glob("*.npz"), *real_digits.glob("*.json")):
        shutil.copy(file, cache)
    environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", KERAS_COMPARISON],
        cwd=REPOSITORY,
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("the same"), done.stderr


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(IMDB, tmp_path)
    for part in ("imdb.npz is missing", str(tmp_path), "tf-keras-datasets/imdb.npz", "--data", ENVIRONMENT):
        assert part in str(caught.value)


def test_damaged_file(tiny: Tiny, tmp_path: Path) -> None:
    dataset = tiny.recipes["topic"].dataset
    shutil.copytree(tiny.data, tmp_path, dirs_exist_ok=True)
    damaged = bytearray((tmp_path / "t.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "t.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"t\.npz is damaged: \d+ bytes with SHA-256 [0-9a-f]{64}, expected"):
        load(dataset, tmp_path)


def test_damaged_word_index(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        load(tiny.recipes["sentiment"].dataset, tmp_path)


def test_folder_from_the_environment(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tiny.data))
    assert len(load(tiny.recipes["sentiment"].dataset).x_train) == 120


def test_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_file(*_: Any, **__: Any) -> str:
        raise Exception("URL fetch failure")  # as Keras raises it

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(DataError, match=r"imdb\.npz could not be had: .*KERAS_HOME.*URL fetch failure.*--data"):
        find(IMDB.arrays, None)


def test_keras_checks_what_it_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get_file(*arguments: Any, **options: Any) -> str:
        asked.append((arguments, options))
        return "/cached"

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert find(IMDB.arrays, None) == Path("/cached")
    [((name, origin), options)] = asked
    assert name == "imdb.npz"
    assert origin.endswith("/imdb.npz")
    assert options == {"file_hash": IMDB.arrays.sha256}


def test_splits(tiny: Tiny) -> None:
    sizes = {}
    for name, recipe in tiny.recipes.items():
        data = load(recipe.dataset, tiny.data)
        sizes[name] = (len(data.x_train), len(data.y_train), len(data.x_test), len(data.y_test))
        assert data.raw_test == []
    assert sizes == {
        "sentiment": (120, 120, 60, 60),
        "topic": (160, 160, 40, 40),
        "house_price": (80, 80, 20, 20),
        "digits": (90, 90, 40, 40),
    }


def test_grey_values_stay_as_they_are_and_other_numbers_become_float32(tiny: Tiny) -> None:
    types = {name: tiny.recipes[name].dataset for name in ("digits", "house_price")}
    found = {name: load(dataset, tiny.data).x_test for name, dataset in types.items()}
    assert {name: x.batch(np.arange(2)).dtype for name, x in found.items()} == {
        "digits": np.uint8,
        "house_price": np.float32,
    }


def test_samples_that_keras_does_not_shuffle_stay_in_the_files_order(tiny: Tiny) -> None:
    dataset = tiny.recipes["digits"].dataset
    with np.load(tiny.data / "d.npz") as file:
        x, y = file["x_test"], file["y_test"]
    data, shuffled = (load(dataclasses.replace(dataset, shuffled=each), tiny.data) for each in (False, True))
    assert isinstance(data.x_test, Table)
    np.testing.assert_array_equal(data.x_test.values, x)
    np.testing.assert_array_equal(data.y_test, y)
    assert shuffled.y_test.tolist() != y.tolist()
    assert sorted(shuffled.y_test) == sorted(y)


def test_raw_texts_are_used_where_they_are(tiny: Tiny, tmp_path: Path) -> None:
    dataset = dataclasses.replace(tiny.recipes["topic"].dataset, raw_test=IMDB.raw_test)
    assert load(dataset, tiny.data).raw_test == []
    shutil.copytree(tiny.data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "imdb_raw_test.jsonl.gz").write_bytes(b"not the file")
    with pytest.raises(DataError, match="imdb_raw_test"):
        load(dataset, tmp_path)


ranks = st.lists(st.lists(st.integers(1, 20_000), max_size=20), min_size=1, max_size=8)


@given(ranks)
def test_sequences_hold_keras_ids(texts: list[list[int]]) -> None:
    sequences = Sequences.from_ranks(texts)
    assert [sequences[row].tolist() for row in range(len(sequences))] == [
        [START, *(rank + 3 for rank in text)] for text in texts
    ]
    assert sequences.ids.dtype == np.int32


@given(ranks, st.data())
def test_batches_are_the_books_multi_hot_rows(texts: list[list[int]], draw: st.DataObject) -> None:
    rows = draw.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=10))
    encoded = Sequences.from_ranks(texts).batch(np.array(rows))
    expected = np.zeros((len(rows), NUM_WORDS), np.float32)
    for place, row in enumerate(rows):
        expected[place, START] = 1
        for rank in texts[row]:
            expected[place, rank + 3 if rank + 3 < NUM_WORDS else OUT_OF_VOCABULARY] = 1
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, expected)


def test_table_rows() -> None:
    table = Table(np.arange(12, dtype=np.float32).reshape(4, 3))
    np.testing.assert_array_equal(table.take(np.array([3, 1])).batch(np.array([1])), [[3, 4, 5]])
