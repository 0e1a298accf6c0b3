"""The hand-built graphs compute what plain Python does, for any text, whatever stands beside it."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import checker

from serving.package.text import flatten
from training.data import NUM_WORDS, Array, Sequences
from training.evaluate import open_session
from training.models import SENTIMENT
from training.packaging.graph import EMPTY_COLUMN, UNINDEXED_COLUMN, table_front, text_front
from training.text import encode, known_words, normalise, tokens

from ..conftest import ODD_WORDS

MEANINGLESS = max(EMPTY_COLUMN, UNINDEXED_COLUMN) + 1
"""Columns below this are not the encoding's: the network's kernel is zero there."""

COLUMNS = SENTIMENT.known(None)

words = st.one_of(
    st.sampled_from(ODD_WORDS),
    st.integers(0, 10_200).map(lambda number: f"W{number}"),
    st.text(max_size=4),
)
texts = st.one_of(
    st.text(),
    st.lists(words, max_size=30).map(" ".join),
    st.sampled_from(["", " ", "  ", "\x00", "\x85", "\xa0", "\t\n", "!", "." * 1500, " " * 1500]),
)


@pytest.fixture(scope="module")
def front(word_index: dict[str, int]) -> ort.InferenceSession:
    return open_session(text_front(word_index).SerializeToString())


def run(front: ort.InferenceSession, batch: list[str]) -> tuple[Array, Array]:
    multi_hot, known = front.run(["multi_hot", "known_words"], flatten("text", [normalise(text) for text in batch]))
    return multi_hot[:, MEANINGLESS:], known


@settings(deadline=None, max_examples=300)
@given(batch=st.lists(texts, min_size=1, max_size=6))
def test_any_text_is_encoded_as_in_python(
    front: ort.InferenceSession, word_index: dict[str, int], batch: list[str]
) -> None:
    multi_hot, known = run(front, batch)
    for row, text in enumerate(batch):
        ids = encode(text, word_index)
        expected = Sequences(ids, np.array([0, len(ids)])).batch(np.array([0]))[0, MEANINGLESS:]
        np.testing.assert_array_equal(multi_hot[row].nonzero()[0], expected.nonzero()[0])
        assert set(np.unique(multi_hot[row])) <= {0, 1}
        assert known[row] == known_words(tokens(text), word_index, COLUMNS)


@settings(deadline=None, max_examples=100)
@given(batch=st.lists(texts, min_size=2, max_size=6))
def test_neighbours_do_not_matter(front: ort.InferenceSession, batch: list[str]) -> None:
    together, known_together = run(front, batch)
    alone = [run(front, [text]) for text in batch]
    np.testing.assert_array_equal(together, np.concatenate([multi_hot for multi_hot, _ in alone]))
    np.testing.assert_array_equal(known_together, np.concatenate([known for _, known in alone]))


def test_shapes_of_the_text_graph(word_index: dict[str, int]) -> None:
    model = text_front(word_index)
    checker.check_model(model, full_check=True)
    assert shapes(model.graph.input) == {"text": [1], "text_tokens": ["N"]}
    assert shapes(model.graph.output) == {"multi_hot": ["N", NUM_WORDS], "known_words": ["N"]}


def test_absent_features_become_their_mean() -> None:
    means = np.array([1.5, -2, 0], np.float32)
    features = np.array([[np.nan, 7, np.nan], [1, 2, 3], [np.inf, np.nan, -0.0]], np.float32)
    model = table_front(means)
    checker.check_model(model, full_check=True)
    [present] = open_session(model.SerializeToString()).run(None, {"features": features})
    np.testing.assert_array_equal(present, np.array([[1.5, 7, 0], [1, 2, 3], [np.inf, -2, 0]], np.float32))


def shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, list[int | str]]:
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values
    }
