"""Text rules: how raw text is normalised, and the flat layout in which a text graph takes a batch of it.

A batch of texts is one string, its texts joined by a space, with the number of tokens of each text
beside it. Cost then follows the words in the batch and never rows times the longest text. A token
is what lies between two spaces, so it may be empty; graphs give the empty token no meaning.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.package.manifest import TextRules

TOKENS_SUFFIX = "_tokens"
"""The flat layout of an input `text` is `text` (string, [1]) and `text_tokens` (int64, [N])."""

COLLAPSE_FROM = 1024
"""Texts of more tokens than this lose their empty ones. Below it they cost less than a search for them."""

_BLANKS = re.compile(rb"  +")


class TextTooLong(ValueError):
    """A text of more words than the limit allows."""

    def __init__(self, words: int) -> None:
        super().__init__(f"{words} words")
        self.words = words


class Normaliser:
    """`TextRules` compiled: raw text in, UTF-8 bytes out, words separated by spaces.

    Lower-casing comes before encoding, so that letters outside ASCII are lowered, too; the
    character table then works on bytes, which is several times faster than `str.translate`.
    """

    def __init__(self, rules: TextRules) -> None:
        table = bytearray(range(256))
        for code in rules.to_space.encode("ascii"):
            table[code] = ord(" ")
        self._table = bytes(table)
        self._lowercase = rules.lowercase

    def __call__(self, text: str, max_words: int | None = None) -> bytes:
        """Normalise one text; never empty: a text without words is a single space.

        Raises:
            TextTooLong: more than `max_words` words.
        """
        encoded = (text.lower() if self._lowercase else text).encode().translate(self._table)
        tokens = encoded.count(b" ") + 1
        if tokens > COLLAPSE_FROM or (max_words is not None and tokens > max_words):
            encoded = _BLANKS.sub(b" ", encoded).strip(b" ")
            words = encoded.count(b" ") + 1
            if max_words is not None and words > max_words:
                raise TextTooLong(words)
        return encoded or b" "


def flatten(name: str, texts: Sequence[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Graph inputs, in the flat layout, for the input `name` holding normalised `texts`.

    Returns:
        `name`: string [1], the texts joined by a space; `<name>_tokens`: int64 [N], tokens of each.
    """
    return {
        # str, not bytes: ONNX Runtime takes bytes in an object array by their repr.
        name: np.array([b" ".join(texts).decode()], dtype=np.object_),
        name + TOKENS_SUFFIX: np.array([text.count(b" ") + 1 for text in texts], dtype=np.int64),
    }
