"""The plain-Python encoding is the data sets' own."""

from pathlib import Path

import numpy as np
import pytest

from training.data import IMDB, REUTERS, START, Dataset, Sequences, load
from training.errors import ExportError
from training.text import encode, known_words, known_words_of, rebuild, tokens, unreachable

INDEX = {"the": 1, "film": 2, "don't": 3, "café": 4, "rare": 9_997}
KNOWN = np.arange(3, 10_000)


def test_encode() -> None:
    assert encode("The FILM: don't!\t(café)\nrare", INDEX).tolist() == [START, 4, 5, 6, 7, 10_000]


def test_words_outside_the_index_are_skipped() -> None:
    assert encode("the unheard-of film", INDEX).tolist() == [START, 4, 5]


def test_only_the_space_splits() -> None:
    assert tokens("a\x85b c\xa0d  e") == ["a\x85b", "c\xa0d", "e"]


@pytest.mark.parametrize("text", ["", " ", "\n\t !?", "   " * 2000])
def test_texts_without_words(text: str) -> None:
    assert encode(text, INDEX).tolist() == [START]
    assert known_words(tokens(text), INDEX, KNOWN) == 0


def test_known_words_counts_every_occurrence() -> None:
    assert known_words(tokens("the the film rare unheard"), INDEX, KNOWN) == np.float32(3 / 5)


def test_known_words_of_sequences() -> None:
    sequences = Sequences.from_ranks([[1, 2, 9_997, 9_996], [], [9_998]])
    np.testing.assert_array_equal(known_words_of(sequences, KNOWN), np.array([3 / 4, 0, 0]))


def test_rebuild() -> None:
    assert rebuild(Sequences.from_ranks([[4, 1, 9_997], []]), INDEX) == ["café the rare".encode(), b" "]


def test_index_that_the_rules_cut() -> None:
    with pytest.raises(ExportError, match="cut 2 indexed words"):
        unreachable({"a-b": 1, "": 2, "c": 3})


def test_unreachable_words_are_told() -> None:
    assert unreachable({"?": 1, "É": 2, "é": 3, "a\x85": 4}) == ["?", "É"]


@pytest.mark.parametrize("dataset", [IMDB, REUTERS], ids=lambda dataset: dataset.arrays.name)
def test_raw_texts_give_the_data_sets_own_ids(dataset: Dataset, real_data: Path) -> None:
    data = load(dataset, real_data)
    assert isinstance(data.x_test, Sequences)
    assert len(data.raw_test) == 1_000
    for sample in data.raw_test:
        assert encode(sample.text, data.word_index).tolist() == data.x_test[sample.index].tolist()
