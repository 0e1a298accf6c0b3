"""The hand-built ONNX graph of a linear model over terms: raw text in, weighted sums out.

Each word of a batch looks its weight up, alone and together with the words before it, and what it finds is added to its
text's sum: cost follows the words in the batch. Runs of words are one 64-bit number each, exactly as `training.terms`
has them, so a label encoder finds them in a hash table, without collisions.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.package.text import TOKENS_SUFFIX
from training.data import INDEX_FROM, OUT_OF_VOCABULARY, START, Array
from training.errors import ExportError
from training.packaging.graph import count, model_of, rows, tokens
from training.terms import WORD_BITS, length

EMPTY, UNINDEXED, NOTHING = 0, 1, 0
"""Ids of "" and of words outside the index, which no indexed word has; and what stands before the start mark."""


@dataclass(frozen=True)
class Weights:
    """What a linear model over terms has learnt, all scaling multiplied in."""

    keys: Array
    """int64 [terms], ascending, as in `training.terms`."""
    weights: Array
    """float32 [terms, units], for each time that a term occurs."""
    squares: Array
    """float32 [terms]: what that adds to the squared length of the text; above 0 for single words, else 0."""
    bias: Array
    """float32 [units]."""
    floor: float
    """Least squared length."""


def terms_front(word_index: dict[str, int], learnt: Weights) -> onnx.ModelProto:
    """Text in, sums over terms out.

    Inputs: `text` string [1], the normalised texts joined by a space; `text_tokens` int64 [N], tokens of each, at
    least 1. Outputs: `sums` float32 [N, units]; `known_words` float32 [N], the share of words that are terms.

    Args:
        word_index: the data set's whole index.
        learnt: the model.
    """
    keys, weights, squares = learnt.keys, learnt.weights, learnt.squares
    is_word = length(keys) == 1
    ids = max(word_index.values()) + INDEX_FROM + 1
    word_weights = np.zeros((ids, weights.shape[1]), np.float32)
    word_squares = np.zeros(ids, np.float32)
    word_weights[keys[is_word]], word_squares[keys[is_word]] = weights[is_word], squares[is_word]
    longest = int(length(keys[-1:])[0])
    if squares[~is_word].any() or (longest > 1 and weights.shape[1] > 1) or ids > 1 << WORD_BITS:
        raise ExportError("runs of words may have one weight each, no length, and words of 17 bits")
    node = helper.make_node
    nodes = [
        *tokens(word_index, [rank + INDEX_FROM for rank in word_index.values()], EMPTY, UNINDEXED, "id"),
        *count("id", "word", "empty"),
        *count("id", "indexed", "out_of_vocabulary"),
        # Only indexed words from here on: the data set's own encoding leaves others out, so runs reach across them.
        node("Compress", ["id", "is_indexed"], ["word"], axis=0),
        node("Gather", ["word_squares", "word"], ["word_square"]),
        node("Gather", ["word_weights", "word"], ["word_weight"]),
        node("Greater", ["word_square", "zero_float"], ["is_term"]),
        node("Cast", ["is_term"], ["term_one"], to=TensorProto.INT32),
        *(_runs(keys, weights[:, 0], longest) if longest > 1 else [node("Identity", ["word_weight"], ["weight"])]),
        *_sum_of("weight", "weight_zero", "total_double"),
        *_sum_of("word_square", "square_zero", "square_double"),
        *_sum_of("term_one", "term_zero", "term_count_double"),
        node("Cast", ["total_double"], ["total"], to=TensorProto.FLOAT),
        node("Cast", ["square_double"], ["squared"], to=TensorProto.FLOAT),
        node("Max", ["squared", "floor"], ["squared_length"]),
        node("Sqrt", ["squared_length"], ["text_length"]),
        node("Unsqueeze", ["text_length", "last_axis"], ["text_length_column"]),
        node("Div", ["total", "text_length_column"], ["direction"]),
        node("Add", ["direction", "bias"], ["sums"]),
        node("Cast", ["term_count_double"], ["term_count"], to=TensorProto.FLOAT),
        node("Max", ["word_count", "one_float"], ["word_count_or_one"]),
        node("Div", ["term_count", "word_count_or_one"], ["known_words"]),
    ]
    constants: dict[str, Array] = {
        "minus_one": np.array([-1], np.int64),
        "axis": np.array(0, np.int32),
        "last_axis": np.array([1], np.int64),
        "zero_count": np.array([0], np.int32),
        "zero_float": np.array(0, np.float32),
        "one_float": np.array([1], np.float32),
        "empty": np.array(EMPTY, np.int64),
        "out_of_vocabulary": np.array(OUT_OF_VOCABULARY, np.int64),
        "word_weights": word_weights,
        "word_squares": word_squares,
        **(_run_constants() if longest > 1 else {}),
        "weight_zero": np.zeros((1, weights.shape[1]), np.float64),
        "square_zero": np.zeros(1, np.float64),
        "term_zero": np.zeros(1, np.float64),
        "floor": np.array([learnt.floor], np.float32),
        "bias": learnt.bias.astype(np.float32),
    }
    return model_of(
        nodes,
        inputs={"text": (TensorProto.STRING, [1]), "text" + TOKENS_SUFFIX: (TensorProto.INT64, ["N"])},
        outputs={"sums": (TensorProto.FLOAT, ["N", weights.shape[1]]), "known_words": (TensorProto.FLOAT, ["N"])},
        constants=constants,
    )


def _runs(keys: Array, weights: Array, longest: int) -> list[onnx.NodeProto]:
    """Nodes that add to each word's own weight those of the runs that end with it, up to `longest` words."""
    node = helper.make_node
    nodes = [*rows(), node("Compress", ["row", "is_indexed"], ["word_row"], axis=0)]
    key, total = "word", "word_weight"
    for words in range(2, longest + 1):
        back = words - 1
        nodes += [
            *_moved("word_row", back, "no_row"),
            *_moved("word", back, "nothing"),
            node("Equal", ["word_row", f"word_row_{back}_back"], [f"has_{back}_back"]),
        ]
        # Before a text's first word stands the start mark, and before that nothing.
        if back == 1:
            before_text = "start"
        else:
            before_text = f"before_text_{back}"
            nodes.append(node("Where", [f"has_{back - 1}_back", "start", "nothing"], [before_text]))
        its_own = length(keys) == words
        nodes += [
            node("Where", [f"has_{back}_back", f"word_{back}_back", before_text], [f"before_{back}"]),
            node("Mul", [f"before_{back}", f"shift_{back}"], [f"shifted_{back}"]),
            node("Add", [f"shifted_{back}", key], [f"run_of_{words}"]),
            node(
                "LabelEncoder",
                [f"run_of_{words}"],
                [f"run_weight_{words}"],
                domain="ai.onnx.ml",
                keys_tensor=numpy_helper.from_array(keys[its_own], "keys"),
                values_tensor=numpy_helper.from_array(weights[its_own].astype(np.float32), "values"),
                default_tensor=numpy_helper.from_array(np.zeros(1, np.float32), "default"),
            ),
            node("Unsqueeze", [f"run_weight_{words}", "last_axis"], [f"run_column_{words}"]),
            node("Add", [total, f"run_column_{words}"], [f"weight_to_{words}" if words < longest else "weight"]),
        ]
        key, total = f"run_of_{words}", f"weight_to_{words}"
    return nodes


def _run_constants() -> dict[str, Array]:
    return {
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "start": np.array([START], np.int64),
        "nothing": np.array([NOTHING], np.int64),
        "no_row": np.array([-1], np.int64),
        **{f"shift_{back}": np.array([1 << WORD_BITS * back], np.int64) for back in (1, 2)},
        **{f"end_{back}": np.array([-back], np.int64) for back in (1, 2)},
    }


def _moved(values: str, back: int, filler: str) -> list[onnx.NodeProto]:
    """Nodes that give each place the value `back` places before it, and the first ones `filler`."""
    node = helper.make_node
    name = f"{values}_{back}_back"
    return [
        node("Concat", [*[filler] * back, values], [f"{name}_longer"], axis=0),
        node("Slice", [f"{name}_longer", "zero", f"end_{back}", "zero"], [name]),
    ]


def _sum_of(values: str, zero: str, name: str) -> list[onnx.NodeProto]:
    """Nodes that add up `values`, one for each indexed word, in each text.

    A running sum in double precision, so that a text's sum does not depend on the texts before it by more than 1e-12.
    """
    node = helper.make_node
    return [
        node("Cast", [values], [f"{values}_double"], to=TensorProto.DOUBLE),
        node("CumSum", [f"{values}_double", "axis"], [f"{values}_sum"]),
        node("Concat", [zero, f"{values}_sum"], [f"{values}_sum_from_zero"], axis=0),
        node("Gather", [f"{values}_sum_from_zero", "indexed_at_stop"], [f"{values}_at_stop"], axis=0),
        node("Gather", [f"{values}_sum_from_zero", "indexed_at_start"], [f"{values}_at_start"], axis=0),
        node("Sub", [f"{values}_at_stop", f"{values}_at_start"], [name]),
    ]
