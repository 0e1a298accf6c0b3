"""Models folders for faults: one small model each, unless a fault needs more."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.serving.packages import copy, edit, replace_model


def one_model(models: Path) -> Path:
    """A folder that serves house_price alone: the quickest start there is."""
    copy(models)
    return models


def tasked(models: Path) -> Path:
    """A house_price that takes as many turns of a loop as its crime rate says, and is its negative where odd."""
    folder = copy(models)

    def info(name: str, kind: int, shape: list[int | str]) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Neg", ["state"], ["next"])],
        "body",
        [
            info("turn", TensorProto.INT64, []),
            info("go_on", TensorProto.BOOL, []),
            info("state", TensorProto.FLOAT, ["N", 1]),
        ],
        [info("still", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, ["N", 1])],
    )
    made = helper.make_graph(
        [
            helper.make_node("Slice", ["features", "start", "stop", "axis"], ["crime"]),
            helper.make_node("ReduceMax", ["crime"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["turns", "yes", "crime"], ["price"], body=body),
        ],
        "tasked",
        [info("features", TensorProto.FLOAT, ["N", 13])],
        [info("price", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (("start", [0]), ("stop", [1]), ("axis", [1]), ("yes", True))
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    replace_model(folder, model.SerializeToString())
    golden = {"inputs": {"features": [[2.0] * 13, [1.0] * 13]}, "outputs": {"price": [[2.0], [1.0]]}}
    edit(folder, lambda manifest: manifest["golden"].update(golden))
    return models


ENDLESS = 1e12
"""A crime rate that takes such a house_price some days."""


def reshaped(models: Path) -> Path:
    """A house_price that fails where the crime rate is 1.5, for what the graph does with it and not as bad values."""
    folder = copy(models)
    made = helper.make_graph(
        [
            helper.make_node("Slice", ["features", "start", "stop", "axis"], ["crime"]),
            helper.make_node("ReduceMax", ["crime"], ["most"], keepdims=1, axes=[0, 1]),
            helper.make_node("Mul", ["most", "two"], ["twice"]),
            helper.make_node("Cast", ["twice"], ["columns"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["columns", "flat"], ["columns1"]),
            helper.make_node("Concat", ["rows", "columns1"], ["shape"], axis=0),
            helper.make_node("Reshape", ["crime", "shape"], ["halved"]),
            helper.make_node("Reshape", ["halved", "back"], ["price"]),
        ],
        "reshaped",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 13])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (
                ("start", [0]),
                ("stop", [1]),
                ("axis", [1]),
                ("two", np.float32(2)),
                ("flat", [1]),
                ("rows", [-1]),
                ("back", [-1, 1]),
            )
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    replace_model(folder, model.SerializeToString())
    golden = {"inputs": {"features": [[0.5] * 13]}, "outputs": {"price": [[0.5]]}}
    edit(folder, lambda manifest: manifest["golden"].update(golden))
    return models
