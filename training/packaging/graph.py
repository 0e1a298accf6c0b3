"""Hand-built ONNX graphs that go in front of a network, so that a package takes what clients have: text, raw numbers.

The text graph takes the flat layout of `serving.package.text`. Its cost follows the words in the batch, never rows
times the longest text, so no text can slow its neighbours.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.package.text import TOKENS_SUFFIX
from training.data import INDEX_FROM, NUM_WORDS, OUT_OF_VOCABULARY, Array

OPSET = 20  # the first with StringSplit
ML_OPSET = 4  # LabelEncoder takes strings to int64 from 2 on; later versions add nothing that is used here
OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
IR_VERSION = helper.find_min_ir_version_for(OPSETS)

EMPTY_COLUMN, UNINDEXED_COLUMN = 0, 1
"""Where "" and words outside the index go. The dataset never sets the first, and sets the second (the start mark) in
every sample; `packaging.convert` makes both mean nothing and adds the start mark's weights to the bias instead."""


def text_front(word_index: dict[str, int]) -> onnx.ModelProto:
    """Text in, multi-hot rows out.

    Inputs: `text` string [1], the normalised texts joined by a space; `text_tokens` int64 [N], tokens of each, at
    least 1. Outputs: `multi_hot` float32 [N, NUM_WORDS]; `known_words` float32 [N], the share of words with a column
    of their own.
    """
    columns = [rank + INDEX_FROM for rank in word_index.values()]
    columns = [column if column < NUM_WORDS else OUT_OF_VOCABULARY for column in columns]
    node = helper.make_node
    nodes = [
        *tokens(word_index, columns, EMPTY_COLUMN, UNINDEXED_COLUMN, "column"),
        *rows(),
        # Ones into a flat [N * NUM_WORDS]; a word that occurs twice writes the same one twice.
        node("Mul", ["row", "width"], ["row_offset"]),
        node("Add", ["column", "row_offset"], ["position"]),
        node("Mul", ["rows", "width"], ["size"]),
        node("ConstantOfShape", ["size"], ["zeros"], value=scalar(TensorProto.FLOAT)),
        node("Expand", ["one_float", "token_count"], ["ones"]),
        node("ScatterElements", ["zeros", "position", "ones"], ["flat"], axis=0),
        node("Concat", ["minus_one", "width"], ["matrix_shape"], axis=0),
        node("Reshape", ["flat", "matrix_shape"], ["multi_hot"]),
        *count("column", "known", "out_of_vocabulary"),
        *count("column", "word", "empty_column"),
        node("Max", ["word_count", "one_float"], ["word_count_or_one"]),
        node("Div", ["known_count", "word_count_or_one"], ["known_words"]),
    ]
    constants: dict[str, Array] = {
        "minus_one": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
        "one_float": np.array([1], np.float32),
        "width": np.array([NUM_WORDS], np.int64),
        "axis": np.array(0, np.int32),
        "zero_count": np.array([0], np.int32),
        "out_of_vocabulary": np.array(OUT_OF_VOCABULARY, np.int64),
        "empty_column": np.array(EMPTY_COLUMN, np.int64),
    }
    return model_of(
        nodes,
        inputs={"text": (TensorProto.STRING, [1]), "text" + TOKENS_SUFFIX: (TensorProto.INT64, ["N"])},
        outputs={"multi_hot": (TensorProto.FLOAT, ["N", NUM_WORDS]), "known_words": (TensorProto.FLOAT, ["N"])},
        constants=constants,
    )


def table_front(means: Array) -> onnx.ModelProto:
    """Raw features in, NaN meaning absent; the same features out, absent ones replaced by their training mean.

    Input `features` and output `present_features`: float32 [N, len(means)].
    """
    shape = (TensorProto.FLOAT, ["N", len(means)])
    return model_of(
        [
            helper.make_node("IsNaN", ["features"], ["is_absent"]),
            helper.make_node("Where", ["is_absent", "training_means", "features"], ["present_features"]),
        ],
        inputs={"features": shape},
        outputs={"present_features": shape},
        constants={"training_means": means.astype(np.float32)},
    )


def tokens(
    word_index: dict[str, int], values: list[int], empty: int, unindexed: int, name: str
) -> list[onnx.NodeProto]:
    """Nodes that cut the joined texts into tokens, look each one up, and say where texts start and stop among them.

    Args:
        word_index: the data set's whole index.
        values: of its words, in its order.
        empty: the value of "".
        unindexed: the value of any other token.
        name: of the tensor of values, int64 [tokens].
    """
    node = helper.make_node
    return [
        node("StringSplit", ["text"], ["split", "split_counts"], delimiter=" "),
        node("Reshape", ["split", "minus_one"], ["tokens"]),
        node(
            "LabelEncoder",
            ["tokens"],
            [name],
            domain="ai.onnx.ml",
            keys_strings=[*word_index, ""],
            values_int64s=[*values, empty],
            default_int64=unindexed,
        ),
        node("CumSum", ["text_tokens", "axis"], ["stops"]),
        node("Sub", ["stops", "text_tokens"], ["starts"]),
    ]


def rows() -> list[onnx.NodeProto]:
    """Nodes that number each token's text: a one at each text's first token, added up.

    No text is empty, so starts differ.
    """
    node = helper.make_node
    return [
        node("Shape", ["tokens"], ["token_count"]),
        node("Shape", ["text_tokens"], ["rows"]),
        node("ConstantOfShape", ["token_count"], ["no_starts"], value=scalar(TensorProto.INT64)),
        node("Expand", ["one", "rows"], ["start_marks"]),
        node("ScatterElements", ["no_starts", "starts", "start_marks"], ["is_start"], axis=0),
        node("CumSum", ["is_start", "axis"], ["row_from_one"]),
        node("Sub", ["row_from_one", "one"], ["row"]),
    ]


def count(of: str, what: str, above: str) -> list[onnx.NodeProto]:
    """Nodes that count, for each text, its tokens whose value in `of` is greater than the constant `above`.

    A running sum with a zero in front, looked up at each text's two ends.
    """
    node = helper.make_node
    return [
        node("Greater", [of, above], [f"is_{what}"]),
        node("Cast", [f"is_{what}"], [f"{what}_one"], to=TensorProto.INT32),
        node("CumSum", [f"{what}_one", "axis"], [f"{what}_sum"]),
        node("Concat", ["zero_count", f"{what}_sum"], [f"{what}_sum_from_zero"], axis=0),
        node("Gather", [f"{what}_sum_from_zero", "stops"], [f"{what}_at_stop"]),
        node("Gather", [f"{what}_sum_from_zero", "starts"], [f"{what}_at_start"]),
        node("Sub", [f"{what}_at_stop", f"{what}_at_start"], [f"{what}_int_count"]),
        node("Cast", [f"{what}_int_count"], [f"{what}_count"], to=TensorProto.FLOAT),
    ]


def scalar(element_type: int) -> onnx.TensorProto:
    """The zero that ConstantOfShape repeats."""
    return helper.make_tensor("value", element_type, [1], [0])


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    constants: dict[str, Array],
) -> onnx.ModelProto:
    """The graph of `nodes`, each named after its first output."""
    for node in nodes:
        node.name = node.output[0]
    graph = helper.make_graph(
        nodes,
        "front",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)
