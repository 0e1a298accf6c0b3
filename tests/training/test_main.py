"""The command line, as people run it: real processes, small data."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from serving.package.manifest import MANIFEST, MODEL, parse
from training.__main__ import main

from .conftest import Tiny

NAMES = ("topic", "house_price")  # one of text, one of numbers
PACKAGE = ["model.json", "model.onnx", "run.json"]
PACKAGE_NOWHERE = ["package", "nowhere.keras", "--task", "regression", "--examples", "nowhere.npz"]


@pytest.fixture(scope="module")
def fitted(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository with packages and the saved networks beside it, and what was printed."""
    folder = tmp_path_factory.mktemp("fitted")
    done = tiny.run("fit", *NAMES, "--out", folder / "models", "--save-network", folder / "networks")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


def test_fit_writes_packages_and_nothing_else(fitted: tuple[Path, str]) -> None:
    models = fitted[0] / "models"
    assert sorted(str(path.relative_to(models)) for path in models.rglob("*") if path.is_file()) == sorted(
        f"{name}/1/{file}" for name in NAMES for file in PACKAGE
    )
    for name in NAMES:
        manifest = parse((models / name / "1" / MANIFEST).read_bytes())
        assert (manifest.name, manifest.version) == (name, 1)
        assert any(metric.startswith("validation_") for metric in manifest.metrics)


def test_fit_shows_progress_and_a_table(fitted: tuple[Path, str]) -> None:
    output = fitted[1]
    assert "topic: validation, epoch 1/2" in output
    assert "house_price: fold 4/4, epoch 2/2" in output
    for heading in ("test metric", "book", "model.onnx", "training", "total", "peak memory"):
        assert heading in output
    assert "MAE k$" in output


def test_fit_twice_gives_the_same_bytes(tiny: Tiny, fitted: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(fitted[0] / "models", tmp_path, dirs_exist_ok=True)
    done = tiny.run("fit", *NAMES, "--out", tmp_path, "--version", 1, "--force")
    assert done.stdout.count("same bytes as before") == 2, done.stderr
    for name in NAMES:
        for file in (MODEL, MANIFEST):  # run.json alone holds what differs
            again = (tmp_path / name / "1" / file).read_bytes()
            assert again == (fitted[0] / "models" / name / "1" / file).read_bytes(), f"{name}/1/{file}"


def test_an_existing_version_is_refused_before_any_work(tiny: Tiny, fitted: tuple[Path, str]) -> None:
    done = tiny.run("fit", "topic", "--out", fitted[0] / "models", "--version", 1)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "--force" in done.stderr


def test_export_of_a_saved_network_gives_the_same_graph(tiny: Tiny, fitted: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = fitted
    assert sorted(path.name for path in (folder / "networks").iterdir()) == sorted(f"{name}.keras" for name in NAMES)
    done = tiny.run("export", "topic", folder / "networks" / "topic.keras", "--out", tmp_path, "--version", 5)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "topic/5" / MODEL).read_bytes() == (folder / "models/topic/1" / MODEL).read_bytes()
    manifest = parse((tmp_path / "topic/5" / MANIFEST).read_bytes())
    assert "network_sha256" in manifest.provenance
    assert not any(metric.startswith("validation_") for metric in manifest.metrics)


def test_evaluate(tiny: Tiny, fitted: tuple[Path, str]) -> None:
    for name, metric in (("topic", "accuracy"), ("house_price", "mae")):
        package = fitted[0] / "models" / name / "1"
        done = tiny.run("evaluate", package)
        assert done.returncode == 0, done.stderr
        [row] = [line for line in done.stdout.splitlines() if f" {metric} " in line]
        stated = parse((package / MANIFEST).read_bytes()).metrics[f"test_{metric}"]
        assert row.count(f" {stated:.4f} ") == 2  # measured now, and in the manifest


@pytest.mark.parametrize(
    ("stage", "whole_group"),
    [("training and", True), ("validation, epoch", False)],
    ids=["starting, from a terminal", "training, by kill"],
)
def test_interrupted_fit_leaves_nothing(tiny: Tiny, tmp_path: Path, stage: str, whole_group: bool) -> None:
    command = tiny.training_long("topic").arguments("fit", "topic", "--out", tmp_path / "models")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(stage in line for line in process.stdout)  # waits until it is that far
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "interrupted" in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "topic", "--data", "nowhere"], "reuters.npz is missing: looked in nowhere"),
        (["fit", "topic", "--version", "0"], "--version must be 1 or more"),
        (["evaluate", "nowhere"], "nowhere is not a model package"),
        ([*PACKAGE_NOWHERE, "--name", "own"], "nowhere.keras is not a saved Keras network"),
        ([*PACKAGE_NOWHERE, "--name", "Own"], "--name 'Own' is not a model's name"),
        ([*PACKAGE_NOWHERE, "--name", "own", "--version", "0"], "--version must be 1 or more"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_package(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, message in (
        (["--name", "own", "--task", "ranking"], "invalid choice: 'ranking'"),
        (["--task", "regression"], "the following arguments are required: --name"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["package", "nowhere.keras", "--examples", "nowhere.npz", *wrong])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "poetry"])
    assert caught.value.code == 2
    assert "sentiment" in capsys.readouterr().err
