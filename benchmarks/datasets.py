"""The test sets of the three models as a client would send them, read without Keras.

The files are Keras's own; texts come back from the sequences of word ranks through the word index, rare
words, too, joined by a space. Split and order are those of `keras.datasets`, so that a sample's place
in them is the `index` of the raw texts. This is on purpose not the reader that trained the models: two readers that
agree are one mistake less.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

ENVIRONMENT = "TRIPTYCH_DATA"
_USUAL = Path(__file__).parents[2] / "shared" / "data"

_SEED = 113
_TEST_SHARE = 0.2

# Lists in a NumPy file are pickled, and to unpickle a file is to run it: only these very files are.
_TRUSTED = {
    "imdb.npz": "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
    "reuters.npz": "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916",
}

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class DataMissing(Exception):  # noqa: N818 - it is no error to have no data
    """A data file is not there, or not the one it should be; the message says which."""


class RawText(NamedTuple):
    """A test sample's text as it was published."""

    text: str
    label: int
    position: int
    """Where it is in the test set."""


def find_data(named: Path | None = None) -> Path | None:
    """The folder named, else that of TRIPTYCH_DATA, else the usual place if it is there."""
    if named is None and (variable := os.environ.get(ENVIRONMENT)):
        named = Path(variable)
    return named or (_USUAL if _USUAL.is_dir() else None)


def sentiment_test(data: Path) -> tuple[list[str], Labels]:
    """All 25,000 test reviews, and for each 1 if it is positive.

    Raises:
        DataMissing: a file is not there.
    """
    with np.load(_trusted(data, "imdb.npz"), allow_pickle=True) as file:
        sequences, labels = file["x_test"], file["y_test"]
        # Keras shuffles the training set first, and goes on from there.
        _, order = _orders(len(file["y_train"]), len(labels))
    return _texts(sequences[order], data, "imdb"), labels[order]


def topic_test(data: Path) -> tuple[list[str], Labels]:
    """All 2,246 test newswires, and the topic of each.

    Raises:
        DataMissing: a file is not there.
    """
    with np.load(_trusted(data, "reuters.npz"), allow_pickle=True) as file:
        sequences, labels = file["x"], file["y"]
    rows = _test_rows(len(labels))
    return _texts(sequences[rows], data, "reuters"), labels[rows]


def house_test(data: Path) -> tuple[Floats, Floats]:
    """The 102 test suburbs: features [102, 13] in the data set's order, and prices in thousand dollars.

    Raises:
        DataMissing: a file is not there.
    """
    with np.load(_existing(data, "boston_housing.npz")) as file:
        features, prices = file["x"], file["y"]
    rows = _test_rows(len(prices))
    return features[rows], prices[rows]


def raw_texts(data: Path, name: Literal["imdb", "reuters"]) -> list[RawText]:
    """1,000 test samples as they were published.

    Raises:
        DataMissing: the file is not there.
    """
    with gzip.open(_existing(data, f"{name}_raw_test.jsonl.gz"), "rt", encoding="utf-8", newline="\n") as lines:
        samples = [json.loads(line) for line in lines]
    return [RawText(sample["text"], sample["label"], sample["index"]) for sample in samples]


def _orders(*samples: int) -> list[npt.NDArray[np.int64]]:
    """The orders in which Keras shuffles so many samples, one set after the other."""
    orders = [np.arange(count) for count in samples]
    shuffle = np.random.RandomState(_SEED).shuffle
    for order in orders:
        shuffle(order)
    return orders


def _test_rows(samples: int) -> npt.NDArray[np.int64]:
    """Where Keras splits what the file holds in one piece."""
    [order] = _orders(samples)
    return order[int(samples * (1 - _TEST_SHARE)) :]


def _texts(sequences: Iterable[list[int]], data: Path, name: str) -> list[str]:
    index: dict[str, Any] = json.loads(_existing(data, f"{name}_word_index.json").read_bytes())
    words = [""] * (max(index.values()) + 1)
    for word, rank in index.items():
        words[rank] = word
    return [" ".join([words[rank] for rank in ranks]) for ranks in sequences]


def _existing(data: Path, name: str) -> Path:
    path = data / name
    if not path.is_file():
        raise DataMissing(f"{name} is not in the data folder; --data or {ENVIRONMENT} says where the data is")
    return path


def _trusted(data: Path, name: str) -> Path:
    path = _existing(data, name)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _TRUSTED[name]:
            raise DataMissing(f"{name} is not the file that Keras distributes: its SHA-256 differs")
    return path
