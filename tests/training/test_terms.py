"""Terms are the words and runs of words that plain Python finds; what data says of each is the formula's."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from training.data import START, Sequences
from training.terms import (
    LONGEST_RUN,
    WORD_BITS,
    Terms,
    frequent,
    inverse_document_frequencies,
    keys,
    length,
    log_ratios,
)

LARGEST = 88_587  # of either index
Ids = tuple[int, ...]

# Few different words, so that runs occur twice, and the largest ids, so that numbers are as large as they get.
ids = st.sampled_from([4, 5, 6, LARGEST - 1, LARGEST])
texts = st.lists(st.lists(ids, max_size=8), min_size=1, max_size=6)


def sequences(words: list[list[int]]) -> Sequences:
    return Sequences.from_ranks([[word - 3 for word in text] for text in words])


def runs(text: list[int], words: int) -> list[Ids]:
    """Every run of so many words, the start mark before the first; the mark alone is none."""
    marked = [START, *text]
    found = [tuple(marked[end - words : end]) for end in range(words, len(marked) + 1)]
    return [run for run in found if run != (START,)]


def key_of(run: Ids) -> int:
    return sum(word << WORD_BITS * place for place, word in enumerate(reversed(run)))


@given(texts, st.integers(1, LONGEST_RUN))
def test_terms_of_one_length_are_every_run_in_order(given_texts: list[list[int]], words: int) -> None:
    found, rows = keys(sequences(given_texts), words)
    expected = [(key_of(run), row) for row, text in enumerate(given_texts) for run in runs(text, words)]
    assert list(zip(found.tolist(), rows.tolist(), strict=True)) == expected
    assert (length(found) == words).all()


def test_the_largest_words_neither_overflow_nor_collide() -> None:
    edge = [START, 4, 2**16, LARGEST - 1, LARGEST]
    every: list[Ids] = [run for words in (1, 2, 3) for run in itertools.product(edge, repeat=words)]
    numbers = np.array([key_of(run) for run in every], np.int64)  # would raise if one were too large
    assert len(set(numbers.tolist())) == len(every)
    assert (numbers > 0).all()
    assert length(numbers).tolist() == [len(run) for run in every]
    largest = sequences([[LARGEST] * 4])
    assert keys(largest, 3)[0].tolist() == [key_of((START, LARGEST, LARGEST)), *[key_of((LARGEST,) * 3)] * 2]


@settings(deadline=None)
@given(texts.filter(any), texts, st.integers(1, LONGEST_RUN), st.integers(1, 3), st.data())
def test_a_vocabulary_and_its_counts(
    known: list[list[int]], others: list[list[int]], longest: int, least: int, draw: st.DataObject
) -> None:
    occurrences = Counter(run for text in known for words in range(1, longest + 1) for run in runs(text, words))
    terms = [run for run, count in occurrences.items() if len(run) == 1 or count >= least]
    vocabulary = frequent(sequences(known), longest, least)
    assert vocabulary.tolist() == sorted(map(key_of, terms))
    assert vocabulary.dtype == np.int64

    every = known + others  # others have words, and runs, that the vocabulary has not
    found = Terms.count(sequences(every), vocabulary)
    expected = np.zeros((len(every), len(terms)), np.float32)
    columns = {run: column for column, run in enumerate(sorted(terms, key=key_of))}
    for row, text in enumerate(every):
        for run in (run for words in (1, 2, 3) for run in runs(text, words) if run in columns):
            expected[row, columns[run]] += 1
    assert len(found) == len(every)
    np.testing.assert_array_equal(found.counts.toarray(), expected)

    rows = np.array(draw.draw(st.lists(st.integers(0, len(every) - 1), max_size=8)), np.int64)
    np.testing.assert_array_equal(found.take(rows).counts.toarray(), expected[rows])
    batch = found.batch(rows)
    assert batch.dtype == tf.float32
    np.testing.assert_array_equal(np.asarray(tf.sparse.to_dense(batch)), expected[rows])  # it checks the order, too


def test_texts_without_words_have_no_terms() -> None:
    vocabulary = frequent(sequences([[], [7, 8], []]), 2, 1)
    assert vocabulary.tolist() == [7, 8, key_of((START, 7)), key_of((7, 8))]
    empty = Terms.count(sequences([[], []]), vocabulary)
    assert empty.counts.nnz == 0
    assert empty.batch(np.array([0, 1, 0])).shape == (3, 4)
    assert [len(keys(sequences([[], []]), words)[0]) for words in (1, 2, 3)] == [0, 0, 0]


COUNTS = sparse.csr_matrix(np.float32([[2, 1, 0, 1], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]]))
VOCABULARY = np.array([4, 5, 6, key_of((4, 5))])


def test_log_ratios() -> None:
    # Texts of class 1 are the second and the third; each term counts once a text, and once more for smoothing.
    ratios = log_ratios(COUNTS, np.array([0, 1, 1, 0]), VOCABULARY)
    words = [(1 + 1) / (1 + 1), (1 + 1) / (1 + 1), (1 + 1) / 1]  # class 1 over class 0: of 6 and of 5 in all
    expected = [math.log(ratio / 6 * 5) for ratio in words]
    assert ratios.tolist() == pytest.approx([*expected, math.log((2 / 2) / (2 / 2))])  # the run, among runs alone
    assert ratios.dtype == np.float32
    assert COUNTS[0, 0] == 2, "the counts are left as they were"


def test_inverse_document_frequencies() -> None:
    found = inverse_document_frequencies(COUNTS)
    expected = [1 + math.log(5 / (1 + having)) for having in (2, 2, 1, 2)]
    assert found.tolist() == pytest.approx(expected)
    assert inverse_document_frequencies(sparse.csr_matrix(np.ones((3, 1)))).tolist() == [1]
