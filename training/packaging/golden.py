"""Golden examples: real raw inputs that a server runs before it serves a package, and Keras's answers to them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from serving.package.manifest import Golden, Tolerance, golden_values
from training.data import Array, Data, Sequences, Table
from training.evaluate import PROVIDER, predict
from training.models import Network, Recipe
from training.text import encode, known_words, rebuild, tokens

TOLERANCE = {PROVIDER: Tolerance(atol=1e-5, rtol=1e-5), "CUDAExecutionProvider": Tolerance(atol=1e-4, rtol=1e-4)}

ROWS = 8
SHORT, LONG, LONGEST = 1_000, 4_000, 6_000
"""Characters of an ordinary golden text, at most; of the long one, at least if there is one, and at most."""

NON_ASCII = "Zürich, 3 März: Crédit Suisse – “a naïve forecast” – cut its £ and ¥ outlook.\u0085日本"
"""Stands in where no text of the data set is outside ASCII (the wires are all ASCII)."""


def golden(
    recipe: Recipe, data: Data, network: Network, tolerance: Mapping[str, Tolerance] = MappingProxyType(TOLERANCE)
) -> Golden:
    """The golden examples of `recipe`: chosen by rule, answered by `network` on the data set's own encoding."""
    inputs: dict[str, list[Any]]
    if isinstance(data.x_test, Sequences):
        texts = _texts(data, data.x_test)
        inputs = {"text": texts}
        outputs = text_outputs(recipe, network, texts, data.word_index)
    elif recipe.image:
        _, one_of_each = np.unique(data.y_test, return_index=True)
        images = data.x_test.take(one_of_each)
        inputs = {recipe.input: golden_values(images.values)}
        outputs = {recipe.output: predict(recipe, network, images)}
    else:
        features = _features(data.x_test)
        # What the graph does for NaN, done here for Keras: the training mean in place of what is absent.
        means = data.x_train.batch(np.arange(len(data.x_train))).mean(axis=0, dtype=np.float64)
        present = np.where(np.isnan(features), means, features).astype(np.float32)
        inputs = {recipe.input: json_values(features)}
        outputs = {recipe.output: predict(recipe, network, Table(present))}
    return Golden(
        tolerance=dict(tolerance),
        inputs=inputs,
        outputs={name: json_values(values) for name, values in outputs.items()},
    )


def text_outputs(recipe: Recipe, network: Network, texts: list[str], word_index: dict[str, int]) -> dict[str, Array]:
    """What a text package must answer to raw `texts`: Keras on the data set's encoding; the share of known words."""
    ids, known = [encode(text, word_index) for text in texts], recipe.known(network)
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in ids])))
    return {
        recipe.output: predict(recipe, network, Sequences(np.concatenate(ids), offsets)),
        "known_words": np.array([known_words(tokens(text), word_index, known) for text in texts], np.float32),
    }


def _texts(data: Data, x_test: Sequences) -> list[str]:
    """Ordinary texts, one outside ASCII, one long and one empty; raw ones where the data folder has them."""
    texts = [sample.text for sample in data.raw_test]
    if not texts:
        some = x_test.take(np.arange(min(1_000, len(x_test))))
        texts = [text.decode() for text in rebuild(some, data.word_index)]
    ordinary = [text for text in texts if len(text) <= SHORT][:ROWS]
    non_ascii = next((text for text in texts if not text.isascii() and len(text) < LONG), NON_ASCII)
    # The first of the long ones, else the longest there is.
    long = max((text for text in texts if len(text) <= LONGEST), key=lambda text: min(len(text), LONG))
    return [*ordinary, non_ascii, long, ""]


def _features(table: Table) -> Array:
    """Test rows as they are, one more without its first feature, and one without any."""
    features = table.values[: ROWS + 1].copy()
    features[-1, 0] = np.nan
    return np.concatenate([features, np.full((1, features.shape[1]), np.nan, np.float32)])


def json_values(values: Array) -> list[Any]:
    """Golden values of any numeric type; each float as the shortest decimal that reads back as the same one."""
    return golden_values(values.astype(np.str_).astype(np.float64) if values.dtype.kind == "f" else values)
