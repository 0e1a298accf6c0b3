"""What a package says of how it was made is true, and the part that differs from run to run is only in run.json."""

import json
import re
from importlib.metadata import version

import pytest

from training.provenance import code, libraries, peak_memory, run_json
from training.runs import Device
from training.speed import Speed


def test_the_sources_have_one_hash() -> None:
    assert re.fullmatch("sha256:[0-9a-f]{64}", code())
    assert code() == code()


def test_libraries_are_the_ones_installed() -> None:
    found = libraries()
    assert found["keras"] == version("keras")
    assert found.keys() == {"python", "keras", "numpy", "onnx", "tensorflow", "tf2onnx", "onnxruntime"}


def test_run_json() -> None:
    run = json.loads(run_json(None, 1.2345))
    assert run["training_seconds"] is None
    assert run["wall_seconds"] == 1.23
    assert 50e6 < run["peak_memory_bytes"] <= peak_memory()
    assert json.loads(run_json(2.5, 3))["training_seconds"] == 2.5
    assert (run["devices"], run["epoch_seconds"]) == ([], None)
    trained = json.loads(run_json(2.5, 3, [Device("cuda:0", "NVIDIA H200", "9.0")], Speed("final", 100, 3, 1.5, 0.2)))
    assert trained["devices"] == [{"name": "cuda:0", "model": "NVIDIA H200", "compute_capability": "9.0"}]
    assert trained["epoch_seconds"] == {
        "first": 1.5,
        "median_of_the_rest": 0.2,
        "epochs": 3,
        "samples_per_second": pytest.approx(500),
    }
