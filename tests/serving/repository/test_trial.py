"""Trials: what takes all memory, never ends or crashes does so in a process of its own, and the verdict says so."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.package.manifest import parse
from serving.repository import disk, trial
from serving.repository.disk import LoadError
from serving.repository.trial import Trial, try_out
from tests.serving import packages

MIB = 1024**2


def tried(models: Path, name: str = "house_price", version: int = 1, **options: Any) -> Trial:
    folder = models / name / str(version)
    digest = disk.read(models, folder, name, version).digest
    return try_out(models, folder, name, version, digest, **options)


def refusal(models: Path, name: str = "house_price", **options: Any) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        tried(models, name, **options)
    return caught.value.outcome, str(caught.value)


def of_graph(models: Path, *nodes: onnx.NodeProto, **constants: Any) -> Path:
    """A package that is a house_price to look at, and computes what the nodes do."""
    folder = packages.copy(models)
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 13])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    packages.replace_model(folder, model.SerializeToString())
    return folder


# What is good.


@pytest.mark.parametrize(("name", "version"), packages.EVERY)
def test_shipped_packages_pass(name: str, version: int) -> None:
    result = tried(packages.SHIPPED, name, version)
    steps = ["start", "checksum", "static", "checker", "session", "signature", "golden", "warm-up"]
    assert list(result.seconds) == steps
    assert all(0 <= seconds < 60 for seconds in result.seconds.values())
    assert 10 * MIB < result.peak_bytes < 1024 * MIB


def test_paths_may_be_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(packages.SHIPPED.parent)
    assert tried(Path(packages.SHIPPED.name)).peak_bytes


def test_a_package_for_gpus_alone_is_held_to_its_own_tolerance(tmp_path: Path) -> None:
    folder = packages.copy(tmp_path)
    gpu = {"CUDAExecutionProvider": {"atol": 1e-4, "rtol": 1e-4}}
    packages.edit(folder, lambda manifest: manifest["golden"].update(tolerance=gpu))
    tried(tmp_path)
    prices = parse((folder / "model.json").read_bytes()).golden.outputs["price"]
    packages.edit(folder, lambda m: m["golden"]["outputs"].update(price=[[price + 1] for [price] in prices]))
    assert refusal(tmp_path)[0] == "golden"


# What the static rules do not see.


def test_a_graph_that_takes_gigabytes_when_it_runs_is_refused(tmp_path: Path) -> None:
    of_graph(
        tmp_path,
        helper.make_node("ReduceSum", ["features"], ["sum"], keepdims=0),
        helper.make_node("Add", ["column", "sum"], ["left"]),
        helper.make_node("MatMul", ["left", "row"], ["square"]),  # 60,000 x 60,000: 14 GB
        helper.make_node("ReduceMax", ["square"], ["most"], keepdims=0),
        helper.make_node("Mul", ["features", "most"], ["scaled"]),
        helper.make_node("ReduceMax", ["scaled"], ["price"], axes=[1], keepdims=1),
        column=np.ones((60_000, 1), np.float32),
        row=np.ones((1, 60_000), np.float32),
    )
    expected = ("load_error", "it needed more than 0.75 GiB in its trial")
    assert refusal(tmp_path, memory_bytes=768 * MIB) == expected


def test_a_graph_that_takes_gigabytes_when_it_is_loaded_is_refused(tmp_path: Path) -> None:
    of_graph(
        tmp_path,
        helper.make_node("MatMul", ["column", "row"], ["square"]),
        helper.make_node("ReduceMax", ["square"], ["most"], keepdims=0),
        helper.make_node("Mul", ["features", "most"], ["scaled"]),
        helper.make_node("ReduceMax", ["scaled"], ["price"], axes=[1], keepdims=1),
        column=np.ones((60_000, 1), np.float32),
        row=np.ones((1, 60_000), np.float32),
    )
    assert refusal(tmp_path, memory_bytes=768 * MIB) == ("load_error", "it needed more than 0.75 GiB in its trial")


def test_a_loop_without_end_is_refused(tmp_path: Path) -> None:
    packages.copy_endless(tmp_path)
    started = time.monotonic()
    assert refusal(tmp_path, seconds=2) == ("load_error", "it did not end in 2 s, in its trial")
    assert time.monotonic() - started < 60


def test_what_only_the_checker_refuses_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime sorts nodes by itself; ONNX wants them sorted."""
    packages.change_graph(packages.copy(tmp_path), lambda graph: graph.node.reverse())
    outcome, message = refusal(tmp_path)
    assert outcome == "checker"
    assert message.startswith("the ONNX checker refuses it: Nodes in a graph must be topologically sorted")


def test_shapes_that_can_not_be_inferred_are_refused(tmp_path: Path) -> None:
    def contradict(graph: onnx.GraphProto) -> None:
        graph.value_info.append(helper.make_tensor_value_info(graph.node[-2].output[0], TensorProto.FLOAT, ["N", 7]))

    packages.change_graph(packages.copy(tmp_path), contradict)
    outcome, message = refusal(tmp_path)
    assert outcome == "checker"
    assert "ShapeInferenceError" in message or "Inferred shape" in message


def test_what_a_server_would_refuse_is_refused_with_the_same_words(tmp_path: Path) -> None:
    folder = packages.copy(tmp_path)
    packages.edit(folder, lambda m: m["golden"]["outputs"]["price"][3].__setitem__(0, 1.0))
    outcome, message = refusal(tmp_path)
    assert outcome == "golden"
    assert message.startswith("golden example 3: price[0] is ")
    packages.edit(folder, lambda manifest: manifest["inputs"][0].update(datatype="INT64"))
    assert refusal(tmp_path)[0] == "signature"
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    packages.change_graph(folder, lambda graph: graph.initializer.append(tensor))
    assert "keeps its data outside of the graph" in refusal(tmp_path)[1]


def test_another_package_than_was_read_is_refused(tmp_path: Path) -> None:
    folder = packages.copy(tmp_path)
    with pytest.raises(LoadError, match="it changed before its trial") as caught:
        try_out(tmp_path, folder, "house_price", 1, "0" * 64)
    assert caught.value.outcome == "load_error"


def test_a_package_that_has_gone_is_refused(tmp_path: Path) -> None:
    packages.copy(tmp_path)
    with pytest.raises(LoadError, match="No such file or directory") as caught:
        try_out(tmp_path, tmp_path / "house_price" / "2", "house_price", 2, "0" * 64)
    assert caught.value.outcome == "load_error"


@pytest.mark.parametrize("mebibytes", [1, 16, 48])
def test_memory_too_small_for_anything_is_said_to_be(mebibytes: int) -> None:
    expected = f"it needed more than {mebibytes / 1024:.3g} GiB in its trial"
    assert refusal(packages.SHIPPED, memory_bytes=mebibytes * MIB) == ("load_error", expected)


def test_memory_follows_the_size_of_the_graph_and_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_left", list)
    folder = packages.copy(tmp_path)
    small = trial._memory(folder)
    os.truncate(folder / "model.onnx", 10**9)
    assert trial._memory(folder) - small > 5 * 10**9
    assert trial._memory(tmp_path / "missing") == trial.BASE_BYTES
    monkeypatch.setattr(trial, "_left", lambda: [10**15, 32 * MIB])
    assert trial._memory(folder) == 16 * MIB, "half of it"


def test_a_machine_that_has_too_little_left_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_left", lambda: [32 * MIB])
    message = "it needed more than 0.0156 GiB in its trial, half of what is left here"
    assert refusal(packages.SHIPPED) == ("load_error", message)


def test_the_machine_says_what_it_has_left() -> None:
    assert trial._left()
    assert all(left > 0 for left in trial._left())


# However the child ends.


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "it crashed in its trial (SIGABRT)"),
        ("import os; os.kill(os.getpid(), 11)", "it crashed in its trial (SIGSEGV)"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed in its trial, as the system does where memory is short"),
        ("import os; os.kill(os.getpid(), 24)", "it did not end in 1 s, in its trial"),
        ("raise SystemExit(3)", "its trial failed: exit code 3"),
        ("pass", "its trial failed: exit code 0"),
        ("print('not JSON')", "its trial failed: exit code 0"),
        ("""print('{"outcome": "ready"}')""", "its trial failed: exit code 0"),
        ("import no_such_module", "its trial failed: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit('std::bad_alloc')", "it needed more than 2 GiB in its trial"),
        ("import time; time.sleep(600)", "it did not end in 2 s, of which 1 s may be computing, in its trial"),
        ("while True: print('x' * 1000)", "it did not end in 2 s, of which 1 s may be computing, in its trial"),
    ],
)
def test_a_child_that_does_not_answer_is_a_refusal(monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    monkeypatch.setattr(trial, "_left", list)
    monkeypatch.setattr(trial, "BASE_BYTES", 2 * 1024**3 - trial.PER_MODEL_BYTE * 21894)
    monkeypatch.setattr(trial, "PATIENCE", 2)
    monkeypatch.setattr(trial, "_BOOTSTRAP", code)
    started = time.monotonic()
    assert refusal(packages.SHIPPED, seconds=1) == ("load_error", message)
    assert time.monotonic() - started < 60


def test_what_libraries_print_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "print('{}', flush=True); __import__('os').write(1, b'x' * 1000000)"
    hook = f"from serving.repository import verify; verify.load = lambda *_: exec({noise!r})"
    code = trial._BOOTSTRAP.replace("from serving.repository.trial", f"exec({hook!r});from serving.repository.trial")
    assert code != trial._BOOTSTRAP
    monkeypatch.setattr(trial, "_BOOTSTRAP", code)
    assert tried(packages.SHIPPED).peak_bytes


def test_a_child_that_can_not_be_started_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    outcome, message = refusal(packages.SHIPPED)
    assert outcome == "load_error"
    assert message.startswith("its trial could not be started: ")


# What the child may do.

CONFINED = """
import json, os, resource, sys
json.load(sys.stdin)
sys.path[:] = {path!r}
from serving.repository import trial
trial._confine({memory}, 5)
print(json.dumps({{
    "outcome": "told",
    "message": json.dumps({{
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "isolated": sys.flags.isolated,
        "nice": os.nice(0),
        "limits": {{name: resource.getrlimit(getattr(resource, name))[0] for name in {limits!r}}},
        "oom": open("/proc/self/oom_score_adj").read().strip(),
        "onnx": "onnx" in sys.modules,
    }}),
    "seconds": {{}},
    "peak_bytes": 0,
}}))
"""


def test_a_child_gets_what_it_needs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ["RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_CPU"]
    code = CONFINED.format(path=sys.path, memory=512 * MIB, limits=limits)
    monkeypatch.setattr(trial, "_BOOTSTRAP", code)
    monkeypatch.setenv("TRIPTYCH_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    outcome, message = refusal(packages.SHIPPED)
    assert outcome == "told"
    told = json.loads(message)
    assert told["environment"].keys() <= {*trial._ENVIRONMENT, *trial._ALONE}
    assert told["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    assert (told["folder"], told["isolated"], told["nice"], told["oom"]) == ("/", 1, 19, "1000")
    assert [told["limits"][name] for name in limits[:4]] == [0, 0, 512 * MIB, 64]
    assert 5 <= told["limits"]["RLIMIT_CPU"] <= 60
    assert not told["onnx"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = f"""
import os, sys, time
sys.path[:] = {sys.path!r}
from serving.repository import trial
trial._confine(1 << 30, 60)
os.write(1, str(os.getpid()).encode())
time.sleep(60)
"""
    parent = f"""
import sys
sys.path[:] = {sys.path!r}
from serving.repository import trial
import subprocess, os, pathlib
process = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
pathlib.Path({str(mark)!r}).write_bytes(os.read(process.stdout.fileno(), 100))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", parent], check=True, timeout=60)
    pid = int(mark.read_text())
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def test_trials_may_run_side_by_side_on_threads() -> None:
    results: list[Trial] = []
    threads = [threading.Thread(target=lambda: results.append(tried(packages.SHIPPED))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.seconds.keys() >= {"checker"} for result in results] == [True] * 3


def test_the_module_is_the_child_too() -> None:
    folder = packages.SHIPPED / "house_price" / "1"
    job = {
        "models": str(packages.SHIPPED),
        "folder": str(folder),
        "name": "house_price",
        "version": 1,
        "digest": disk.read(packages.SHIPPED, folder, "house_price", 1).digest,
        "seconds": 60,
        "memory": 1024**3,
        "max_batch_rows": 8,
    }
    root = packages.SHIPPED.parent
    done = subprocess.run(
        [sys.executable, "-m", "serving.repository.trial"],
        input=json.dumps(job),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["outcome"] == "ready"
