"""A house price model that computes for ever where a suburb's crime rate is absurd, and as before otherwise."""

import hashlib
import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

ABSURD = 1e9
"""A crime rate: as many turns of the loop, a thousand seconds of them at the least."""

_USUAL = 1e6
"""No feature of a real suburb is greater."""


def make_endless(package: Path) -> None:
    """Have the graph of a house price package count to its greatest feature, if that is absurd, and add nothing."""
    file = package / "model.onnx"
    model = onnx.load(str(file))
    (features,), (price,) = model.graph.input, model.graph.output
    for node in model.graph.node:
        node.output[:] = ["sensible" if name == price.name else name for name in node.output]
    scalar = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("before", "after")]
    truth = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Cos", ["before"], ["after"]), helper.make_node("Identity", ["go"], ["on"])],
        "turn",
        [turn, truth[0], scalar[0]],
        [truth[1], scalar[1]],
    )
    model.graph.initializer.extend(
        [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("nil", 0.0), ("usual", _USUAL))]
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.extend(
        [
            helper.make_node("IsNaN", [features.name], ["absent"]),
            helper.make_node("Where", ["absent", "nil", features.name], ["present"]),
            helper.make_node("ReduceMax", ["present"], ["greatest"], keepdims=0),
            helper.make_node("Sub", ["greatest", "usual"], ["excess"]),
            helper.make_node("Relu", ["excess"], ["turns"]),
            helper.make_node("Cast", ["turns"], ["whole_turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["whole_turns", "yes", "nil"], ["counted"], body=body),
            helper.make_node("Mul", ["counted", "nil"], ["nothing"]),
            helper.make_node("Add", ["sensible", "nothing"], [price.name]),
        ]
    )
    file.write_bytes(model.SerializeToString())
    manifest = json.loads((package / "model.json").read_text("utf-8"))
    content = file.read_bytes()
    manifest["files"]["model.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (package / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
