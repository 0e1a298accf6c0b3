"""Where nodes ran, from profiles: real ones of the CPU, and what one of a GPU would say."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine.device import CPU, CUDA, Device
from serving.engine.placement import Placement
from serving.engine.session import ProfileError, Session
from tests.serving.packages import DOUBLE


def event(name: str, op: str, provider: str, *types: str) -> dict[str, Any]:
    shapes = [{kind: [1]} for kind in types]
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "args": {
            "op_name": op,
            "provider": provider,
            "input_type_shape": shapes[:1],
            "output_type_shape": shapes[1:],
        },
    }


EVENTS = [
    {"cat": "Session", "name": "model_run", "args": {}},
    event("split", "StringSplit", CPU, "string", "string"),
    event("ids", "LabelEncoder", CPU, "string", "int64"),
    event("count", "Shape", CPU, "float", "int64"),
    event("sizes", "Concat", CPU, "int64", "int64"),
    event("trees", "TreeEnsembleRegressor", CPU, "float", "float"),
    event("dense", "Gemm", CUDA, "float", "float"),
    event("dense", "Gemm", CUDA, "float", "float"),  # a second run
    event("lost", "MatMul", CPU, "float", "float"),
]


def test_nodes_are_counted_once_by_provider() -> None:
    placement = Placement.of_profile(EVENTS)
    assert placement.nodes[CUDA] == Counter({"Gemm": 1})
    assert placement.count(CUDA) == 1
    assert placement.count(CPU) == 6


def test_nodes_that_are_not_on_the_gpu_have_an_excuse_or_none() -> None:
    assert Placement.of_profile(EVENTS).excuses(CUDA) == {
        "text": Counter({"StringSplit": 1, "LabelEncoder": 1}),
        "integers": Counter({"Concat": 1}),
        "no CUDA kernel": Counter({"TreeEnsembleRegressor": 1}),
        "shape": Counter({"Shape": 1}),
        "": Counter({"MatMul": 1}),
    }


def test_a_profile_of_what_really_ran(tmp_path: Path) -> None:
    session = Session(DOUBLE, Device(CPU), profiled=True)
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], 2 * x)
    assert session.profiled
    placement = session.placement()
    assert placement.count(CPU) == 1
    assert placement.count(CUDA) == 0
    assert not session.profiled
    np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], 2 * x)  # and goes on


def test_a_profile_that_can_not_be_written_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("serving.engine.session._MEMORY", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = Session(DOUBLE, Device(CPU), profiled=True)
    assert Path(session._folder).parent == tmp_path, "the other place"
    session._session.end_profiling()
    Path(session._folder, "profile").write_text("")
    monkeypatch.setattr(session._session, "end_profiling", lambda: str(Path(session._folder, "profile")))
    with pytest.raises(ProfileError, match=r"could not write its profile into .*: is it full"):
        session.placement()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ProfileError, match=r"neither into .*missing nor into a temporary folder"):
        Session(DOUBLE, Device(CPU), profiled=True)


def test_a_session_leaves_no_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("serving.engine.session._MEMORY", str(tmp_path))
    session = Session(DOUBLE, Device(CPU), profiled=True)
    session.run(["y"], {"x": np.ones((1, 2), np.float32)})
    assert len(list(tmp_path.iterdir())) == 1
    session.placement()
    assert not list(tmp_path.iterdir())
    del session
    forgotten = Session(DOUBLE, Device(CPU), profiled=True)
    assert len(list(tmp_path.iterdir())) == 1
    del forgotten
    assert not list(tmp_path.iterdir())
