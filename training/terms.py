"""Terms: words and runs of consecutive words, and how often each occurs in a text.

A term is known by one number, made of the ids of its words, so that looking it up needs no text: 17 bits a word, the
last word lowest. The start mark stands before every first word, so that runs tell where a text begins; by itself it is
no term, for every text has it. Only words of the data set's index count: between the words of a run there may have been
others in the raw text, which the data set's own encoding leaves out, too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.data import Array, Sequences

WORD_BITS = 17
"""Enough for either index: ids go up to 88,587."""

LONGEST_RUN = 3
"""Three times 17 bits fit a signed 64-bit number."""

Keys = npt.NDArray[np.int64]


def keys(texts: Sequences, words: int) -> tuple[Keys, npt.NDArray[np.int32]]:
    """Every term of `words` consecutive words in `texts`, in order, and the text that each is in.

    Args:
        texts: sequences that begin with the start mark.
        words: how many, 1 to `LONGEST_RUN`; the first of a longer run may be the start mark.
    """
    lengths = np.diff(texts.offsets)
    place = np.arange(len(texts.ids)) - np.repeat(texts.offsets[:-1], lengths)
    row = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    ends = np.flatnonzero(place >= max(1, words - 1))
    found = np.zeros(len(ends), np.int64)
    for before in reversed(range(words)):
        found = (found << WORD_BITS) | texts.ids[ends - before]
    return found, row[ends]


def length(key: Keys) -> npt.NDArray[np.int64]:
    """Words of each term."""
    words: npt.NDArray[np.int64] = np.sum([key >= 1 << WORD_BITS * less for less in range(LONGEST_RUN)], axis=0)
    return words


def frequent(texts: Sequences, longest: int, least: int) -> Keys:
    """int64, ascending: every word of `texts`, and every longer run that occurs at least `least` times in them.

    Args:
        texts: the training samples.
        longest: words of the longest runs.
        least: occurrences of a run of two words or more.
    """
    found = []
    for words in range(1, longest + 1):
        each, counts = np.unique(keys(texts, words)[0], return_counts=True)
        found.append(each[counts >= (least if words > 1 else 1)])
    return np.concatenate(found)  # ascending already: a longer run has a greater number


@dataclass(frozen=True)
class Terms:
    """Texts as counts of the terms of a vocabulary, sparse: a sample of 230 words has some hundred of 400,000."""

    counts: Any
    """SciPy CSR float32 [texts, terms]."""

    @classmethod
    def count(cls, texts: Sequences, vocabulary: Keys) -> "Terms":
        """The terms of `vocabulary`, ascending, in `texts`."""
        rows, columns = [], []
        for words in range(1, int(length(vocabulary[-1:])[0]) + 1):
            key, row = keys(texts, words)
            column = np.minimum(np.searchsorted(vocabulary, key), len(vocabulary) - 1).astype(np.int32)
            there = vocabulary[column] == key
            rows.append(row[there])
            columns.append(column[there])
        row, column = np.concatenate(rows), np.concatenate(columns)
        ones = np.ones(len(row), np.float32)
        return cls(
            sparse.csr_matrix((ones, (row, column)), (len(texts), len(vocabulary)))
        )  # adds up what is there twice

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def take(self, rows: Array) -> "Terms":
        """The texts at `rows`, in that order."""
        return Terms(self.counts[rows])

    def batch(self, rows: Array) -> Any:
        """tf.SparseTensor float32 [len(rows), terms]."""
        import tensorflow as tf

        some = self.counts[rows]
        places = np.stack([np.repeat(np.arange(len(rows)), np.diff(some.indptr)), some.indices], axis=1)
        return tf.SparseTensor(places.astype(np.int64), some.data, some.shape)


def log_ratios(counts: Any, y: Array, vocabulary: Keys) -> npt.NDArray[np.float32]:
    """[terms]: how much more of the texts of class 1 than of class 0 have each term, as naive Bayes has it.

    The logarithm of the ratio of its smoothed shares, words and longer runs each normalised among themselves.

    Source: Wang and Manning, Baselines and Bigrams, ACL 2012.

    Args:
        counts: CSR [texts, terms].
        y: [texts], 0 or 1.
        vocabulary: the terms.
    """
    present = counts.copy()
    present.data[:] = 1
    shares = [1.0 + np.asarray(present[y == label].sum(axis=0), np.float64).ravel() for label in (0, 1)]
    is_word = length(vocabulary) == 1
    for group in (is_word, ~is_word):
        for share in shares:
            share[group] /= share[group].sum()
    ratios: npt.NDArray[np.float32] = np.log(shares[1] / shares[0]).astype(np.float32)
    return ratios


def inverse_document_frequencies(counts: Any) -> npt.NDArray[np.float32]:
    """[terms]: 1 + ln((1 + texts) / (1 + texts that have the term)).

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, §6.2.1; smoothed so that a term
    that every text has still counts for something.
    """
    texts = counts.shape[0]
    having = np.bincount(counts.indices, minlength=counts.shape[1])
    frequencies: npt.NDArray[np.float32] = (1 + np.log((1 + texts) / (1 + having))).astype(np.float32)
    return frequencies
