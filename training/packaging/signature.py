"""What a package takes and gives, as its manifest states it: from a recipe, or from any Keras network."""

import re
from dataclasses import dataclass
from typing import get_args

import numpy as np
from onnx import helper

from serving.package.manifest import NAME_LENGTH, NUMPY_TYPES, Datatype, InputSpec, OutputSpec
from training.errors import ExportError
from training.models import Network, Recipe
from training.packaging.canonical import Tensor
from training.text import RULES

DATATYPES: dict[str, Datatype] = {
    np.dtype(NUMPY_TYPES[datatype]).name: datatype for datatype in get_args(Datatype) if datatype != "BYTES"
}
"""The manifest's name for each type of number, by NumPy's, which is also Keras's."""


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs, in the network's order."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]


def of_recipe(recipe: Recipe) -> Signature:
    """What the package of a reference model takes and gives."""
    given = (
        InputSpec(recipe.input, "BYTES", (-1,), text=RULES, layout="flat")
        if recipe.is_text
        else InputSpec(recipe.input, "UINT8" if recipe.image else "FP32", (-1, *recipe.sample))
    )
    known_words = (OutputSpec("known_words", "FP32", (-1,)),) if recipe.is_text else ()
    return Signature((given,), (OutputSpec(recipe.output, "FP32", (-1, recipe.outputs)), *known_words))


def of_network(network: Network) -> Signature:
    """What the package of any Keras network takes and gives, under the names of its input and output layers.

    Raises:
        ExportError: the network has no fixed inputs and outputs, one of them has a shape or a type that a package can't
            have, or their names can't be told apart; names it, and says what was expected.
    """
    inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
    if not inputs or not outputs:
        raise ExportError(
            "the network does not say what it takes: expected a functional or sequential Keras model, begun with "
            "keras.Input(shape)"
        )
    import keras

    functional = keras.Model(inputs, outputs)  # a sequential model does not say how its input and output are called
    layers = [layer for layer in functional.layers if isinstance(layer, keras.layers.InputLayer)]
    input_names = [next(layer.name for layer in layers if layer.output is tensor) for tensor in inputs]
    names = _distinct(
        [("input", name) for name in input_names] + [("output", name) for name in functional.output_names]
    )
    return Signature(
        tuple(
            InputSpec(name, _datatype(name, tensor.dtype), _shape(name, tensor.shape))
            for name, tensor in zip(names, inputs, strict=False)
        ),
        tuple(
            OutputSpec(name, _datatype(name, tensor.dtype), _shape(name, tensor.shape))
            for name, tensor in zip(names[len(inputs) :], outputs, strict=True)
        ),
    )


def fitting(name: str) -> str:
    """`name` as a manifest may hold it: lower-case letters, digits and underscores, a letter first; "" if none is."""
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).lstrip("0123456789_")


def tensor(spec: InputSpec | OutputSpec) -> Tensor:
    """`spec` as a graph states it: the batch is the axis `N`."""
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(NUMPY_TYPES[spec.datatype]))
    return Tensor(spec.name, element_type, ("N", *spec.shape[1:]))


def described(spec: InputSpec | OutputSpec) -> str:
    """Such as `pixels UINT8 [N, 28, 28]`."""
    return f"{spec.name} {spec.datatype} [{', '.join(['N', *map(str, spec.shape[1:])])}]"


def _distinct(named: list[tuple[str, str]]) -> list[str]:
    """The fitting form of each name; a graph's inputs and outputs share one set of names."""
    seen: dict[str, tuple[str, str]] = {}
    for kind, name in named:
        fits = fitting(name)
        if not fits or len(fits) > NAME_LENGTH:
            raise ExportError(
                f"the {kind} {name!r} can't be named in a package: expected a name with a letter a-z that makes at "
                f"most {NAME_LENGTH} of a-z, 0-9 and _. Name the network's input and output layers."
            )
        if fits in seen:
            other = "{} {!r}".format(*seen[fits])
            raise ExportError(
                f"the {other} and the {kind} {name!r} would both be called {fits!r}: expected a name for each. Give "
                "each input and output of the network a layer with a name of its own."
            )
        seen[fits] = (kind, name)
    return list(seen)


def _datatype(name: str, dtype: str) -> Datatype:
    if dtype not in DATATYPES:
        raise ExportError(f"{name} is of type {dtype}: expected one of {', '.join(sorted(DATATYPES))}")
    return DATATYPES[dtype]


def _shape(name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Keras's `shape` with -1 for the batch."""
    sizes = [size for size in shape[1:] if size is not None and size >= 1]
    if not shape or shape[0] is not None or len(sizes) < len(shape) - 1:
        raise ExportError(
            f"{name} has shape {list(shape)}: expected None, the batch, and then a fixed size for every other axis"
        )
    return (-1, *sizes)
