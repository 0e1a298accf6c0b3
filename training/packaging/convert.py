"""A Keras network, made into one ONNX graph that takes what clients have."""

import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx import checker, compose, defs, helper, shape_inference, version_converter
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from training.best import TermsRecipe, terms_of
from training.data import START, Array
from training.errors import ExportError, one_line
from training.layers import Log
from training.models import Network, Recipe
from training.packaging.canonical import Tensor, canonical
from training.packaging.graph import EMPTY_COLUMN, IR_VERSION, OPSET, OPSETS, UNINDEXED_COLUMN, table_front, text_front
from training.packaging.signature import Signature, of_network, of_recipe, tensor
from training.packaging.terms_graph import Weights, terms_front

CONVERTER_OPSET = 18  # the newest that tf2onnx writes


def convert(recipe: Recipe, network: Network, word_index: dict[str, int]) -> onnx.ModelProto:
    """The graph of a reference model's package: text, raw features or grey values in, the network's outputs out.

    The same network, the same bytes.

    Args:
        recipe: names and widths.
        network: the trained Keras network; it is left as it was.
        word_index: the data set's whole index; empty where the samples aren't text.

    Raises:
        ExportError: the network isn't the recipe's.
    """
    check(recipe, network)
    if recipe.image:
        return convert_network(recipe.name, network, of_recipe(recipe))
    if isinstance(recipe, TermsRecipe):
        front, outputs = terms_front(word_index, _learnt(network)), [recipe.output, "known_words"]
        network = keras.Model(terms_of(network).output, network.outputs)
        joint = "sums"
    elif recipe.is_text:
        front, outputs = text_front(word_index), [recipe.output, "known_words"]
        network = _serving_twin(network)
        joint = "multi_hot"
    else:
        front, outputs = table_front(_training_means(network)), [recipe.output]
        joint = "present_features"
    back = _upgraded(recipe, network)
    model = compose.merge_models(front, back, io_map=[(joint, back.graph.input[0].name)], outputs=outputs)
    # merge_models lists each operator set once for each half, and the front's outputs before the network's.
    del model.opset_import[:]
    model.opset_import.extend(OPSETS)
    in_order = sorted(model.graph.output, key=lambda output: outputs.index(output.name))
    del model.graph.output[:]
    model.graph.output.extend(in_order)
    return _finished(model, recipe.name)


def convert_network(name: str, network: Network, signature: Signature) -> onnx.ModelProto:
    """The graph of a package that does what `network` does and no more. The same network, the same bytes.

    Args:
        name: of the model.
        network: any Keras network; it is left as it was.
        signature: the network's own, under whatever names.

    Raises:
        ExportError: the network needs what ONNX does not have, or doesn't have this signature.
    """
    own = of_network(network)
    for found, wanted in ((own.inputs, signature.inputs), (own.outputs, signature.outputs)):
        types = [[(spec.datatype, spec.shape) for spec in specs] for specs in (found, wanted)]
        if types[0] != types[1]:
            raise ExportError(f"{name}: the network has tensors {types[0]}, not {types[1]}")
    inputs, outputs = ([tensor(spec) for spec in specs] for specs in (signature.inputs, signature.outputs))
    return _finished(canonical(_translated(name, network), "network", inputs, outputs), name)


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


def check(recipe: Recipe, network: Network) -> None:
    """Hold a network, which may come from a file, to what `recipe` makes.

    Raises:
        ExportError: it isn't the recipe's; says what it is instead.
    """
    given = (None, terms_of(network).terms) if isinstance(recipe, TermsRecipe) else (None, *recipe.sample)
    shapes = (tuple(network.input_shape), tuple(network.output_shape))
    if shapes != (wanted := (given, (None, recipe.outputs))):
        raise ExportError(f"{recipe.name}: the network maps {shapes[0]} to {shapes[1]}, not {wanted[0]} to {wanted[1]}")
    # A network in training, such as a checkpoint, may have the shapes of the finished one.
    last = getattr(network.layers[-1], "activation", None)
    if isinstance(recipe, TermsRecipe) and last is not keras.activations.get(recipe.activation):
        raise ExportError(f"{recipe.name}: the network does not end in {recipe.activation}: expected a finished one")


def _learnt(network: Network) -> Weights:
    """The weights of a linear model over terms, what counts are scaled by multiplied in."""
    layer = terms_of(network)
    keys, scale, square, kernel, bias = (
        np.asarray(weight) for weight in (layer.keys, layer.scale, layer.square, layer.kernel, layer.bias)
    )
    return Weights(keys, scale[:, None] * kernel, square, bias, layer.floor)


def _training_means(network: Network) -> Array:
    """float32 [features]: what stands in for absent features, the mean that the first layer knows."""
    logs = next((layer for layer in network.layers if isinstance(layer, Log)), None)
    if logs is not None:
        known: Array = np.asarray(logs.means)
        return known
    scaling = network.layers[0]
    if not isinstance(scaling, keras.layers.Normalization):
        raise ExportError(f"{network.name}: the first layer is {type(scaling).__name__}, expected Normalization")
    means: Array = keras.ops.convert_to_numpy(scaling.mean).reshape(-1)
    return means


def _upgraded(recipe: Recipe, network: Network) -> onnx.ModelProto:
    """The network alone as a canonical graph, at the operator sets of the front that it goes behind."""
    model = version_converter.convert_version(_translated(recipe.name, network), OPSET)
    # With none of its operators in use, ai.onnx.ml may be named at whatever opset the front needs.
    del model.opset_import[:]
    model.opset_import.extend(OPSETS)
    model.ir_version = IR_VERSION
    width = network.inputs[0].shape[-1]
    given = Tensor("network/input", onnx.TensorProto.FLOAT, ("N", width))
    return canonical(model, "network", [given], [Tensor(recipe.output, onnx.TensorProto.FLOAT, ("N", recipe.outputs))])


def _translated(name: str, network: Network) -> onnx.ModelProto:
    """The network as tf2onnx writes it, at `CONVERTER_OPSET`, of standard operators only."""
    functional = keras.Model(network.inputs, network.outputs)  # lists in, lists out, however the network has them
    signature = [
        tf.TensorSpec([None, *given.shape[1:]], given.dtype, name=f"input_{number}")
        for number, given in enumerate(network.inputs)
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def compute(*tensors: Any) -> list[Any]:
        return [tf.identity(output) for output in tf.nest.flatten(functional(list(tensors), training=False))]

    # tf2onnx logs what it can't translate, and leaves it in the graph, where it is found below; TensorFlow, that
    # tf2onnx is old-fashioned.
    for chatty in ("tf2onnx", "tensorflow"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        # Frozen first: tf2onnx takes constants that a layer keeps, such as a Normalization's mean, for more inputs.
        frozen = convert_variables_to_constants_v2(compute.get_concrete_function(), lower_control_flow=False)
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(add_shapes=True),
            input_names=[given.name for given in frozen.inputs],
            output_names=[output.name for output in frozen.outputs],
            opset=CONVERTER_OPSET,
        )
    except Exception as error:  # whatever TensorFlow and tf2onnx raise on what they don't know
        raise ExportError(f"{name}: tf2onnx can't translate the network to ONNX: {one_line(error)}") from error
    foreign = {node.op_type for node in _all_nodes(model.graph) if node.domain or not defs.has(node.op_type)}
    if foreign:
        raise ExportError(
            f"{name}: the network needs what ONNX does not have: {', '.join(sorted(foreign))}. Expected numeric layers "
            "only; do the rest before, in the client."
        )
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", CONVERTER_OPSET))
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    translated: onnx.ModelProto = model
    return translated


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of `graph` and of the graphs that its nodes hold."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _finished(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """`model` signed and checked."""
    model.producer_name = "triptych"
    model.graph.name = name
    model.graph.ClearField("doc_string")
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ExportError(
            f"{name}: the network does not compute what its outputs are declared to be: {one_line(error)}"
        ) from error
    return model
