"""A Keras network, made into one ONNX graph that takes what clients have."""

import keras
import onnx
import tensorflow as tf
import tf2onnx
from onnx import checker, compose, version_converter

from training.canonical import canonical
from training.data import START, Array
from training.errors import ExportError
from training.graph import EMPTY_COLUMN, IR_VERSION, OPSET, OPSETS, UNINDEXED_COLUMN, table_front, text_front
from training.models import Network, Recipe

CONVERTER_OPSET = 18  # the newest that tf2onnx writes


def convert(recipe: Recipe, network: Network, word_index: dict[str, int]) -> onnx.ModelProto:
    """The graph of a package: text or raw features in, the network's outputs out. The same network, the same bytes.

    Args:
        recipe: names and widths.
        network: the trained Keras network; it is left as it was.
        word_index: the data set's whole index; empty where the samples aren't text.

    Raises:
        ExportError: the network isn't the recipe's.
    """
    shapes = (tuple(network.input_shape), tuple(network.output_shape))
    if shapes != (wanted := ((None, recipe.features), (None, recipe.outputs))):
        raise ExportError(f"{recipe.name}: the network maps {shapes[0]} to {shapes[1]}, not {wanted[0]} to {wanted[1]}")
    if recipe.is_text:
        front, outputs = text_front(word_index), [recipe.output, "known_words"]
        network = _serving_twin(network)
        joint = "multi_hot"
    else:
        front, outputs = table_front(_training_means(network)), [recipe.output]
        joint = "present_features"
    back = _network_graph(recipe, network)
    model = compose.merge_models(front, back, io_map=[(joint, back.graph.input[0].name)], outputs=outputs)
    # merge_models lists each operator set once for each half, and the front's outputs before the network's.
    del model.opset_import[:]
    model.opset_import.extend(OPSETS)
    in_order = sorted(model.graph.output, key=lambda output: outputs.index(output.name))
    del model.graph.output[:]
    model.graph.output.extend(in_order)
    model.producer_name = "triptych"
    model.graph.name = recipe.name
    model.graph.ClearField("doc_string")
    checker.check_model(model, full_check=True)
    return model


def _serving_twin(network: Network) -> Network:
    """`network` with the start mark, which every sample has, moved from its column of the first kernel to the bias.

    Columns 0 and 1 are then free for the text graph to send to them what must mean nothing.
    """
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    kernel, bias = twin.layers[0].get_weights()
    bias += kernel[START]
    kernel[[EMPTY_COLUMN, UNINDEXED_COLUMN]] = 0
    twin.layers[0].set_weights([kernel, bias])
    return twin


def _training_means(network: Network) -> Array:
    """float32 [features]: what the network's scaling layer subtracts."""
    scaling = network.layers[0]
    if not isinstance(scaling, keras.layers.Normalization):
        raise ExportError(f"{network.name}: the first layer is {type(scaling).__name__}, expected Normalization")
    means: Array = keras.ops.convert_to_numpy(scaling.mean).reshape(-1)
    return means


def _network_graph(recipe: Recipe, network: Network) -> onnx.ModelProto:
    """The bare network as a canonical ONNX graph."""
    signature = [tf.TensorSpec([None, recipe.features], tf.float32)]
    # tf2onnx reads functional models only.
    functional = keras.Model(network.inputs, network.outputs)
    model, _ = tf2onnx.convert.from_keras(functional, signature, opset=CONVERTER_OPSET)
    model = version_converter.convert_version(model, OPSET)
    if foreign := sorted({node.domain for node in model.graph.node} - {""}):
        raise ExportError(f"{recipe.name}: the network needs operators from {foreign}")
    # With none of its operators in use, ai.onnx.ml may be named at whatever opset the front needs.
    del model.opset_import[:]
    model.opset_import.extend(OPSETS)
    model.ir_version = IR_VERSION
    return canonical(model, "network", recipe.output, (recipe.features, recipe.outputs))
