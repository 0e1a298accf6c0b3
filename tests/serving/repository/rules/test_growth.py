"""What nodes make out of constants: a bound is held against it, however the constants are written."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.serving.repository.graphs import accept, body, branches, maker, model_of, refusal

DOUBLE_ZERO = numpy_helper.from_array(np.zeros(1), "")
LARGE = np.array([50_000, 50_000])


@pytest.mark.parametrize(
    ("node", "constants", "bytes_"),
    [
        (maker("ConstantOfShape", ["s"]), {"s": LARGE}, "10 GB"),
        (maker("ConstantOfShape", ["s"], value=DOUBLE_ZERO), {"s": LARGE}, "20 GB"),
        (maker("ConstantOfShape", ["s"]), {"s": [2**62, 2**62]}, "more bytes than there are"),
        (maker("Expand", ["one", "s"]), {"s": LARGE, "one": np.float32(1)}, "10 GB"),
        (maker("Expand", ["x", "s"]), {"s": LARGE}, "2500 MB"),
        (maker("Expand", ["x", "s"]), {"s": [-1, 10**10, -1]}, "10 GB"),
        (maker("Tile", ["block", "s"]), {"s": [10**4, 10**4], "block": np.zeros((9, 9))}, "65 GB"),
        (maker("Resize", ["x", "", "", "s"]), {"s": [1, 3, 10**5, 10**5]}, "30 GB"),
        (maker("Pad", ["x", "s"]), {"s": [0, 0, 10**5, 10**5]}, "10000 MB"),
        (maker("Pad", ["x"], pads=[10**5, 10**5, 0, 0]), {}, "10000 MB"),
        (maker("Range", ["a", "b", "c"]), {"a": 0, "b": -(10**12), "c": -1}, "8000 GB"),
        (maker("OneHot", ["x", "d", "v"]), {"d": 10**10}, "10 GB"),
        (maker("HannWindow", ["s"]), {"s": 10**10}, "10 GB"),
        (maker("MelWeightMatrix", ["a", "b", "c"]), {"a": 10**5, "b": 10**5}, "40 GB"),
        (maker("RandomNormal", [], shape=[10**5, 10**5]), {}, "40 GB"),
        (maker("ConstantOfShape", ["s"]), {"s": np.array([10**6, 10**6], np.int64)}, "4000 GB"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_a_node_that_makes_too_much_out_of_constants_is_refused(
    node: onnx.NodeProto, constants: dict[str, Any], bytes_: str
) -> None:
    message = f"node 'bomb' ('{node.op_type}') makes {bytes_} or more out of constants; the limit is 1074 MB"
    assert refusal(model_of(node, **constants)) == message
    assert refusal(model_of(branches(body(node)), **constants)) == message, "constants of a graph are seen within"


def test_shapes_may_come_from_constant_nodes_that_stand_behind() -> None:
    for attributes in (
        {"value": numpy_helper.from_array(LARGE)},
        {"value_ints": [50_000, 50_000]},
        {"value_int": 10**10},
    ):
        shape = helper.make_node("Constant", [], ["s"], **attributes)
        assert "makes" in refusal(model_of(maker("ConstantOfShape", ["s"]), shape))


def test_many_small_ones_add_up() -> None:
    def nodes(count: int) -> list[onnx.NodeProto]:
        return [helper.make_node("ConstantOfShape", ["s"], [f"y{i}"]) for i in range(count)]

    accept(model_of(*nodes(26), s=[10**7]))
    assert "node 'y26' ('ConstantOfShape') makes 40 MB or more" in refusal(model_of(*nodes(27), s=[10**7]))


def test_shapes_that_are_found_out_later_pass() -> None:
    accept(model_of(maker("Expand", ["x", "s"]), s=[-1, 1]))
    accept(model_of(maker("ConstantOfShape", ["s"]), s=[0, 10**9]))
    accept(model_of(maker("ConstantOfShape", ["x"])))
    accept(model_of(maker("Range", ["a", "b", "c"]), a=0, b=10**12, c=0))
