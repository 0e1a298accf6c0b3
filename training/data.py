"""The data sets, in Keras's file formats and with the book's splits, held flat and small.

Files come from the folder given, else from the folder named by `TRIPTYCH_DATA`, else from Keras's own cache,
where Keras downloads what is missing. Each one is checked against its SHA-256 before it is read.
"""

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.package.manifest import digest
from training.errors import DataError
from training.quiet import silent_stderr

ENVIRONMENT = "TRIPTYCH_DATA"
KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

# Keras's conventions (the defaults of `keras.datasets.imdb.load_data`), which the book's networks rest on.
START, OUT_OF_VOCABULARY, INDEX_FROM = 1, 2, 3
SHUFFLE_SEED = 113
TRAIN_SHARE = 1 - 0.2  # not 0.8: written as Keras computes it, so that rounding falls the same way
NUM_WORDS = 10_000
"""Columns of a multi-hot row: the book keeps the words whose id is below this."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, and the hash that makes it the right one."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """The files that make up one data set."""

    title: str
    arrays: DataFile
    word_index: DataFile | None = None
    raw_test: DataFile | None = None
    """Raw texts of some test samples. Not among Keras's files, so it is used where it is found."""
    shuffled: bool = True
    """Whether Keras shuffles the samples as it loads them."""


IMDB = Dataset(
    title="IMDB movie reviews (Maas et al., ACL 2011), Keras's imdb.npz",
    arrays=DataFile("imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"),
    word_index=DataFile("imdb_word_index.json", "027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6"),
    raw_test=DataFile("imdb_raw_test.jsonl.gz", "dd2bc542cff8ef23ee8ce34bf2e402451c3037b03120a3eb862b3c2dc4bd8c0b"),
)
REUTERS = Dataset(
    title="Reuters-21578 newswires, Keras's reuters.npz",
    arrays=DataFile("reuters.npz", "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"),
    word_index=DataFile("reuters_word_index.json", "9b56000edc4b34a32e89fd5a23b2605594682c74efcf7d8f4e2a5514b771e633"),
    raw_test=DataFile("reuters_raw_test.jsonl.gz", "7a969fed3d90bcb33eb1b52ad0f97156ca11e97e18a34e8b49c1510376c183ac"),
)
BOSTON_HOUSING = Dataset(
    title="Boston housing (StatLib), Keras's boston_housing.npz",
    arrays=DataFile("boston_housing.npz", "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"),
)
MNIST = Dataset(
    title="MNIST handwritten digits (LeCun, Cortes, Burges), Keras's mnist.npz",
    arrays=DataFile("mnist.npz", "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"),
    shuffled=False,
)


class Inputs(Protocol):
    """Samples that turn into what the network sees only when a batch of them is asked for."""

    def __len__(self) -> int: ...

    def take(self, rows: Array) -> "Inputs":
        """The samples at `rows`, in that order."""
        ...

    def batch(self, rows: Array) -> Array:
        """[len(rows), …]: the samples at `rows` as the network takes them."""
        ...


@dataclass(frozen=True)
class Sequences:
    """Word ids of many texts, end to end: 4 bytes a word, where lists of int take 8 to 36."""

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    """[texts + 1]: text `i` is `ids[offsets[i]:offsets[i + 1]]`."""

    @classmethod
    def from_ranks(cls, texts: Sequence[list[int]] | Array) -> "Sequences":
        """Keras's encoding of lists of word ranks: the start mark, then each rank moved up by `INDEX_FROM`."""
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(ranks) + 1 for ranks in texts], out=offsets[1:])
        ids = np.empty(offsets[-1], dtype=np.int32)
        for start, stop, ranks in zip(offsets[:-1], offsets[1:], texts, strict=True):
            ids[start + 1 : stop] = ranks
        ids += INDEX_FROM
        ids[offsets[:-1]] = START
        return cls(ids, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.int32]:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: Array) -> "Sequences":
        """The texts at `rows`, in that order."""
        starts, lengths = self.offsets[rows], np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        return Sequences(self.ids[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)

    def batch(self, rows: Array) -> Array:
        """float32 [len(rows), NUM_WORDS]: 1 in the column of each word that occurs, else 0.

        Source: Chollet, Deep Learning with Python, 2nd ed., §4.1.2.
        """
        texts = self.take(rows)
        columns = np.where(texts.ids < NUM_WORDS, texts.ids, OUT_OF_VOCABULARY)
        encoded = np.zeros((len(texts), NUM_WORDS), dtype=np.float32)
        encoded[np.repeat(np.arange(len(texts)), np.diff(texts.offsets)), columns] = 1
        return encoded


@dataclass(frozen=True)
class Table:
    """Samples that are numbers already: float32 [N, features], or uint8 [N, height, width] where they are images."""

    values: Array

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Array) -> "Table":
        """The samples at `rows`, in that order."""
        return Table(self.values[rows])

    def batch(self, rows: Array) -> Array:
        """[len(rows), …]: the values as they are; scaling is the network's own first layer."""
        return self.values[rows]


@dataclass(frozen=True)
class RawText:
    """The text of one test sample as it was published, and the sample's row in the test set."""

    text: str
    index: int


@dataclass(frozen=True)
class Data:
    """A data set in memory, split as the book splits it."""

    x_train: Sequences | Table
    y_train: Array
    x_test: Sequences | Table
    y_test: Array
    word_index: dict[str, int]
    """Rank of each word, 1 the most frequent; empty where the samples aren't text."""
    raw_test: list[RawText]
    sha256: dict[str, str]
    """Hashes of the files read, by file name."""


def load(dataset: Dataset, folder: Path | None = None) -> Data:
    """Read `dataset` with Keras's own split and order of samples, all ranks kept.

    Args:
        dataset: which one.
        folder: where its files are; None means the folder named by `TRIPTYCH_DATA`, else Keras's cache.

    Raises:
        DataError: a file is missing or damaged; the message says which, where, and how to get it.
    """
    if folder is None and (named := os.environ.get(ENVIRONMENT)):
        folder = Path(named)
    files = {dataset.arrays.name: dataset.arrays.sha256}
    arrays = find(dataset.arrays, folder)
    word_index: dict[str, int] = {}
    raw_test: list[RawText] = []
    if dataset.word_index is not None:
        word_index = json.loads(find(dataset.word_index, folder).read_bytes())
        files[dataset.word_index.name] = dataset.word_index.sha256
    if dataset.raw_test is not None and folder is not None and (folder / dataset.raw_test.name).exists():
        with gzip.open(find(dataset.raw_test, folder), "rt", encoding="utf-8", newline="\n") as lines:
            samples = (json.loads(line) for line in lines)
            raw_test = [RawText(sample["text"], sample["index"]) for sample in samples]
        files[dataset.raw_test.name] = dataset.raw_test.sha256
    return Data(*_split(arrays, dataset.shuffled), word_index, raw_test, files)


def find(file: DataFile, folder: Path | None) -> Path:
    """Where `file` is, its hash checked; Keras downloads it where no `folder` is given.

    Raises:
        DataError: it is missing, can't be downloaded, or isn't the file it should be.
    """
    advice = f"Get it from {KERAS_FILES}{file.name}, or leave out --data and {ENVIRONMENT} to let Keras download it."
    if folder is None:
        return _download(file)
    path = folder / file.name
    if not path.is_file():
        raise DataError(f"{file.name} is missing: looked in {folder}. {advice}")
    found = digest(path)
    if found.sha256 != file.sha256:
        raise DataError(
            f"{path} is damaged: {found.bytes} bytes with SHA-256 {found.sha256}, expected {file.sha256}. {advice}"
        )
    return path


def _download(file: DataFile) -> Path:
    """The file in Keras's cache (`KERAS_HOME`, else `~/.keras`), downloaded where it isn't there or is damaged."""
    with silent_stderr():
        import keras

    try:
        # Keras compares the hash itself, before it trusts its cache and after it downloads.
        return Path(keras.utils.get_file(file.name, KERAS_FILES + file.name, file_hash=file.sha256))
    except Exception as error:  # get_file raises bare Exception
        raise DataError(
            f"{file.name} could not be had: looked in Keras's cache (datasets/ in $KERAS_HOME, else in ~/.keras), then "
            f"tried to download it ({error}). Put the file there, or name its folder with --data or {ENVIRONMENT}."
        ) from error


def _split(path: Path, shuffled: bool) -> tuple[Sequences | Table, Array, Sequences | Table, Array]:
    """Training inputs and targets, then test inputs and targets, in exactly the order that Keras gives them."""
    shuffle = np.random.RandomState(SHUFFLE_SEED).shuffle  # Keras's generator: any other gives another split

    def order(samples: int) -> Array:
        rows = np.arange(samples)
        shuffle(rows)
        return rows

    # The sequences are pickled lists; unpickling is safe here because the hash was checked first.
    with np.load(path, allow_pickle=True) as file:
        if "x_train" in file:
            # One member at a time: as lists of int, each takes ten times what its flat form does.
            x_train, y_train = _inputs(file["x_train"]), file["y_train"]
            x_test, y_test = _inputs(file["x_test"]), file["y_test"]
            if not shuffled:
                return x_train, y_train, x_test, y_test
            train, test = order(len(y_train)), order(len(y_test))
            return x_train.take(train), y_train[train], x_test.take(test), y_test[test]
        x, y = _inputs(file["x"]), file["y"]
    rows = order(len(y))
    split = int(len(y) * TRAIN_SHARE)
    train, test = rows[:split], rows[split:]
    return x.take(train), y[train], x.take(test), y[test]


def _inputs(array: Array) -> Sequences | Table:
    if array.dtype == np.object_:
        return Sequences.from_ranks(array)
    # Grey values stay as small as they are; everything else is a number that the network takes as float32.
    return Table(array if array.dtype == np.uint8 else array.astype(np.float32))
