"""The data sets' own encoding of text, in plain Python: what the text graphs must reproduce."""

import numpy as np
import numpy.typing as npt

from serving.package.manifest import TextRules
from serving.package.text import Normaliser
from training.data import INDEX_FROM, START, Array, Sequences
from training.errors import ExportError

RULES = TextRules(lowercase=True, to_space='!"#$%&()*+,-./:;<=>?@[\\]^_{|}~`\t\n')
"""The filters of Keras's text tokeniser, with which both data sets were made; the apostrophe stays."""

UNREACHABLE_BY_DESIGN = {"?"}
"""A word of the Reuters index that stands for one stray byte; the rules turn it into a space."""

normalise = Normaliser(RULES)


def tokens(text: str) -> list[str]:
    """The words of a raw text."""
    return [token for token in normalise(text).decode().split(" ") if token]


def encode(text: str, word_index: dict[str, int]) -> npt.NDArray[np.int32]:
    """int32 [words + 1]: the ids of a raw text, all ranks kept; a word that isn't in the index is skipped."""
    ranks = (word_index.get(token) for token in tokens(text))
    return np.array([START, *(rank + INDEX_FROM for rank in ranks if rank is not None)], dtype=np.int32)


def known_words(words: list[str], word_index: dict[str, int], known: Array) -> np.float32:
    """The share of `words` whose ids are `known`: those that have a column of their own; 0 where there are no words."""
    ids = set(known.tolist())
    count = sum(word_index.get(word, -INDEX_FROM) + INDEX_FROM in ids for word in words)
    return np.float32(count / max(1, len(words)))


def known_words_of(sequences: Sequences, known: Array) -> npt.NDArray[np.float32]:
    """float32 [texts]: the same share, of texts whose words are all in the index."""
    is_known = np.zeros(max(int(sequences.ids.max()), int(known.max())) + 1, np.float32)
    is_known[known] = 1
    words = np.diff(sequences.offsets) - 1  # without the start mark, which keeps every part below from being empty
    counts = np.add.reduceat(is_known[sequences.ids], sequences.offsets[:-1])
    shares: npt.NDArray[np.float32] = counts / np.maximum(words, 1).astype(np.float32)
    return shares


def rebuild(sequences: Sequences, word_index: dict[str, int]) -> list[bytes]:
    """The normalised text that each sequence was made from, less its words outside the index."""
    words = np.empty(max(word_index.values()) + INDEX_FROM + 1, dtype=np.object_)
    words[[rank + INDEX_FROM for rank in word_index.values()]] = list(word_index)
    return [" ".join(words[sequences[row][1:]]).encode() or b" " for row in range(len(sequences))]


def unreachable(word_index: dict[str, int]) -> list[str]:
    """The words of the index that no raw text can reach, because normalising changes them.

    They are harmless and stay in the graph. In IMDB they hold capitals outside ASCII: its authors lowered bytes,
    which left those as they were (5 of the 25,000 test reviews).

    Raises:
        ExportError: the rules would cut an indexed word in two, so they are not the rules that made the index.
    """
    separators = {" ", *RULES.to_space}
    cut = [word for word in word_index if not word or separators & set(word)]
    if surprising := sorted(set(cut) - UNREACHABLE_BY_DESIGN):
        raise ExportError(f"the text rules cut {len(surprising)} indexed words, such as {surprising[:3]}")
    return [word for word in word_index if normalise(word) != word.encode()]
