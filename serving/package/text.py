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

COLLAPSE_FROM = 8192
"""Texts of more bytes than this lose their empty tokens. Below it they cost less than a search for them."""

_BLANKS = re.compile(rb"  +")


class TextTooLongError(ValueError):
    """A text of more words than the limit allows."""

    def __init__(self, words: int) -> None:
        super().__init__(f"{words} words")
        self.words = words


class Normaliser:
    """`TextRules` compiled: raw text in, UTF-8 bytes out, words separated by spaces.

    Lower-casing comes before encoding, so that letters outside ASCII are lowered, too; the character
    table then works on bytes, which is several times faster than `str.translate`. ASCII text, the most of
    all text, needs no lower-casing of its own: the table does both.
    """

    def __init__(self, rules: TextRules) -> None:
        table = bytearray(range(256))
        for code in rules.to_space.encode("ascii"):
            table[code] = ord(" ")
        self._table = bytes(table)
        every = bytes(range(256))
        self._ascii_table = (every.lower() if rules.lowercase else every).translate(self._table)
        self._lowercase = rules.lowercase

    def __call__(self, text: str, max_words: int | None = None) -> bytes:
        """Normalise one text; never empty: a text without words is a single space.

        Raises:
            TextTooLongError: more than `max_words` words.
        """
        if text.isascii():
            encoded = text.encode().translate(self._ascii_table)
        else:
            encoded = (text.lower() if self._lowercase else text).encode().translate(self._table)
        if len(encoded) > COLLAPSE_FROM or (max_words is not None and encoded.count(b" ") >= max_words):
            words = _count_words(encoded)
            if max_words is not None and words > max_words:
                raise TextTooLongError(words)
            encoded = _BLANKS.sub(b" ", encoded).strip(b" ")
        return encoded or b" "


def _count_words(encoded: bytes) -> int:
    """Words, not tokens: places where one begins."""
    is_blank = np.frombuffer(b" " + encoded, dtype=np.uint8) == ord(" ")
    return int(np.count_nonzero(is_blank[:-1] & ~is_blank[1:]))


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
