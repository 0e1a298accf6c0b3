"""A session runs where it was told to, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from serving.engine.device import CPU, CUDA, Device, DeviceError, cuda_problem
from serving.engine.session import Session
from tests.serving.packages import DOUBLE, graph

X = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def test_a_graph_runs_and_tells_its_signature() -> None:
    session = Session(DOUBLE, Device(CPU))
    assert session.provider == CPU
    assert session.inputs == {"x": ("tensor(float)", ["N", 2])}
    assert session.outputs == {"y": ("tensor(float)", ["N", 2])}
    [y] = session.run(["y"], {"x": X})
    np.testing.assert_array_equal(y, 2 * X)


@pytest.mark.parametrize("model", [b"", b"not ONNX", DOUBLE[:-20]])
def test_what_is_no_graph_raises(model: bytes) -> None:
    with pytest.raises(Exception, match=r"ONNXRuntimeError"):
        Session(model, Device(CPU))


@pytest.mark.parametrize("location", ["weights.bin", "../{folder}/weights.bin"])
def test_weights_outside_of_the_graph_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    weights = numpy_helper.from_array(np.ones(2, np.float32), "w")
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    onnx.external_data_helper.set_external_data(weights, location.format(folder=tmp_path.name))
    weights.ClearField("raw_data")
    model = onnx.load_from_string(graph([("Add", ["x", "w"], ["y"], {})], {"x": ["N", 2]}, {"y": ["N", 2]}))
    model.graph.initializer.append(weights)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="External data path"):
        Session(model.SerializeToString(), Device(CPU))


@pytest.mark.parametrize(
    "feed",
    [{}, {"z": X}, {"x": X.astype(np.float64)}, {"x": X[:, :1]}, {"x": X[0]}],
    ids=["nothing", "another name", "another type", "another width", "another rank"],
)
def test_a_feed_that_does_not_fit_raises(feed: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|Required inputs"):
        Session(DOUBLE, Device(CPU)).run(["y"], feed)


@pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="this onnxruntime is built without CUDA")
@pytest.mark.skipif(cuda_problem(0) is None, reason="needs a machine without a GPU")
def test_a_session_that_would_run_elsewhere_is_refused() -> None:
    with pytest.raises(DeviceError, match=f"ONNX Runtime chose {CPU} although {CUDA} was asked for"):
        Session(DOUBLE, Device(CUDA, {"device_id": 0}))


@pytest.mark.skipif(cuda_problem(0) is not None, reason="needs a GPU")
def test_a_session_on_a_gpu_computes_there() -> None:
    session = Session(DOUBLE, Device(CUDA, {"device_id": 0, "use_tf32": 0}))
    assert session.provider == CUDA
    np.testing.assert_array_equal(session.run(["y"], {"x": X})[0], 2 * X)


def test_a_run_that_ends_in_time_is_not_ended() -> None:
    session = Session(DOUBLE, Device(CPU))
    with session.bounded(60.0):
        [y] = session.run(["y"], {"x": X})
    np.testing.assert_array_equal(y, 2 * X)
    with pytest.raises(Exception, match="INVALID_ARGUMENT"), session.bounded(60.0):
        session.run(["y"], {"x": X[:, :1]})
