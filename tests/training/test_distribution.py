"""Trained on several devices or by several processes, a network is the one that a single device would have given."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.cluster import is_chief
from training.distribution import strategy
from training.errors import TrainingError

pytestmark = pytest.mark.timeout(300)  # three processes that import TensorFlow

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import dataclasses, json, sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from training import placement
from training.best import BEST
from training.data import Data, Table
from training.errors import TrainingError
from training.fit import fit, train
from training.models import HOUSE_PRICE
from training.options import Options

kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "mirrored":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
# 75 samples to train on while 30 are held out: the last of the batches of 8 has 3, which don't split evenly.
x = Table(random.normal(3, 2, (105, 13)).astype(np.float32))
data = Data(x, x.values[:, 0].copy(), None, None, {}, [], {})
recipe = dataclasses.replace(
    HOUSE_PRICE, hidden=(16,), epochs=8, batch_size=8, folds=0, validation_samples=30, l2=1e-3, missing=0.0
)

def report(epoch):
    reports.append((epoch.stage, epoch.done, epoch.of, epoch.figures))

def save(name, network, validation=None):
    np.savez(folder / f"{name}.npz", *network.get_weights())
    variables = sorted({type(weight.value).__name__ for weight in network.weights})
    told = {"validation": validation, "reports": reports, "variables": variables}
    (folder / f"{name}.json").write_text(json.dumps(told))
    reports.clear()

reports = []
if kind == "multi-worker":
    fitted = fit(
        recipe, data, report, Options(distribute=kind, tensorboard=folder / "logs", checkpoints=folder / "checkpoints")
    )
    save(kind, fitted.network, fitted.validation)
else:
    some = np.arange(30)
    held_out = x.take(some), data.y_train[some]
    # Masks differ between devices, so the last can't be compared with one device's; it must run, and stay finite.
    hard = dataclasses.replace(recipe, dropout=0.2, missing=0.1, epochs=2)
    for name, trained, options in [
        ("one", recipe, Options()),
        ("mirrored", recipe, Options(distribute="mirrored")),
        ("mixed", hard, Options(distribute="mirrored", precision="float16", early_stopping=1)),
    ]:
        save(name, train(trained, x, data.y_train, "final", report, held_out, options))
    # The second CPU stands in for a GPU: what puts the network there and takes it back is the same.
    placement.target = lambda options: "CPU:1"
    check_used = placement.check_used
    seen = []

    def spy(learner, *arguments):
        seen.append(sorted({weight.value.device for weight in learner.trainable_variables}))
        check_used(learner, *arguments)

    placement.check_used = spy
    asked = Options(device="cuda:0")
    for name, recipe in [("placed", recipe), ("placed best", dataclasses.replace(BEST["house_price"], epochs=2))]:
        network = train(recipe, x, data.y_train, "final", report, held_out, asked)
        save(name, network)
    found = sorted({weight.value.device for weight in network.weights})
    try:
        check_used(network, asked, x.batch(some))
    except TrainingError as error:
        (folder / "placement.json").write_text(json.dumps([seen, found, str(error)]))
"""


def start(kind: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    folder.mkdir()
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, **own},
        stderr=subprocess.PIPE,
        text=True,
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of what was trained on one device and two, and by each of two workers; all at once, to save time."""
    root = tmp_path_factory.mktemp("distributed")
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    processes = {
        f"worker {index}": start(
            "multi-worker",
            root / f"worker {index}",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in (0, 1)
    }
    processes["mirrored"] = start("mirrored", root / "mirrored")
    try:
        for name, process in processes.items():
            _, error = process.communicate(timeout=240)
            assert process.returncode == 0, f"{name}: {error[-3000:]}"
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {name: root / name for name in processes}


def weights(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


def test_two_devices_give_the_weights_of_one(runs: dict[str, Path]) -> None:
    one, two = (weights(runs["mirrored"] / f"{name}.npz") for name in ("one", "mirrored"))
    for expected, got in zip(one, two, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    expected, got = (json.loads((runs["mirrored"] / f"{name}.json").read_text()) for name in ("one", "mirrored"))
    for before, after in zip(expected["reports"], got["reports"], strict=True):
        assert after[:3] == before[:3]
        assert after[3] == pytest.approx(before[3], rel=1e-3)  # losses, metrics, and the same on what is held out
    assert got["variables"] == expected["variables"], "the network given back is bound to no strategy"


def test_two_workers_end_with_the_same_weights_and_learn(runs: dict[str, Path]) -> None:
    first, second = (weights(runs[f"worker {index}"] / "multi-worker.npz") for index in (0, 1))
    assert [weight.tobytes() for weight in first] == [weight.tobytes() for weight in second]
    for expected, got in zip(weights(runs["mirrored"] / "one.npz"), first, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    summaries = [(runs[f"worker {index}"] / "multi-worker.json").read_text() for index in (0, 1)]
    assert summaries[0] == summaries[1]
    losses = [figures["loss"] for stage, _, _, figures in json.loads(summaries[0])["reports"] if stage == "final"]
    assert losses[-1] < 0.7 * losses[0]


def test_only_the_chief_writes(runs: dict[str, Path]) -> None:
    chief, other = (runs[f"worker {index}"] for index in (0, 1))
    assert {path.name for path in (chief / "checkpoints").rglob("*.keras")} == {"best.keras", "last.keras"}
    assert {path.name for path in (chief / "logs").iterdir()} == {"validation", "final"}
    assert {path.name for path in other.iterdir()} == {"multi-worker.npz", "multi-worker.json"}


def test_float16_dropout_and_early_stopping_work_on_two_devices(runs: dict[str, Path]) -> None:
    one, mixed = (weights(runs["mirrored"] / f"{name}.npz") for name in ("one", "mixed"))
    assert all(np.isfinite(weight).all() for weight in mixed)
    assert [weight.dtype for weight in mixed] == [weight.dtype for weight in one]


def test_a_network_is_trained_where_it_is_asked_for_and_comes_home(runs: dict[str, Path]) -> None:
    """On a second CPU, for want of a GPU: the same weights, and nothing of it left there."""
    one, placed = (weights(runs["mirrored"] / f"{name}.npz") for name in ("one", "placed"))
    for expected, got in zip(one, placed, strict=True):
        np.testing.assert_array_equal(got, expected)
    there, home, refusal = json.loads((runs["mirrored"] / "placement.json").read_text())
    assert [[place.rpartition("/")[2] for place in places] for places in there] == [["device:CPU:1"]] * 2
    assert [place.rpartition("/")[2] for place in home] == ["device:CPU:0"]
    assert refusal.startswith("--device cuda:0: TensorFlow had the network on ")


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 0}, True),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "chief", "index": 0}, True),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "worker", "index": 0}, False),
    ],
)
def test_one_process_is_the_chief(
    cluster: dict[str, list[str]], task: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert is_chief("multi-worker") is expected


def test_without_other_workers_every_process_is_the_chief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert is_chief("none")
    assert is_chief("mirrored")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "TF_CONFIG is not set"),
        ("worker", "names no task"),
        ('{"cluster": {"worker": ["a:1"]}}', "names no task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "names no task"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}', "other roles"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(
    config: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(TrainingError, match=message):
        strategy("multi-worker")
