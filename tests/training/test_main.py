"""The command line, as people run it: real processes, small data."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from serving.package.manifest import MANIFEST, MODEL, parse
from training import runs
from training.__main__ import main
from training.errors import EndedEarlyError, TrainingError
from training.job import Job, run
from training.models import RECIPES
from training.tuning.best import Best, Hyperparameters, write

from .conftest import REPOSITORY, Tiny

NAMES = ("topic", "house_price")  # one of text, one of numbers; by their best recipes, which is what a fit takes
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
        assert manifest.provenance["recipe"] == "best"


def test_fit_leaves_a_record(tiny: Tiny, fitted: tuple[Path, str]) -> None:
    for name, splits in (("topic", ["validation"]), ("house_price", ["fold 1/2", "fold 2/2"])):
        folder = tiny.data / "runs" / name / "best-seed0"
        record = runs.read(folder)
        package = str(fitted[0] / "models" / name / "1")
        assert (record.recipe, record.package, list(record.splits)) == ("best", package, splits)
        assert record.hyperparameters == json.loads(json.dumps(tiny.best[name].hyperparameters))
        assert f"python -m training report {folder}" in fitted[1].replace("\n", "")


def test_fit_shows_progress_and_a_table(fitted: tuple[Path, str]) -> None:
    output = fitted[1]
    assert "topic: validation, epoch 1/2" in output
    assert "house_price: fold 2/2, epoch 2/2" in output
    for heading in ("recipe", "test metric", "book", "against", "model.onnx", "training", "total", "peak memory"):
        assert heading in output
    for heading in ("device", "epoch", "samples/s"):
        assert heading in output
    assert re.search(r"topic: trained on cpu.*: [\d.]+ m?s an epoch, [\d,]+ samples/s \(the median; the first", output)
    assert "MAE k$" in output
    assert output.count("the first version") == 4  # as it goes, and in the table


def test_fit_of_several_seeds_gives_the_same_bytes_for_the_same_seed(
    tiny: Tiny, fitted: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(fitted[0] / "models", tmp_path / "models")
    done = tiny.run("fit", "topic", "--seeds", 2, "--force", "--out", tmp_path / "models", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("same bytes as before") == 1
    first, again, other = (
        folder / "models" / "topic" / version
        for folder, version in ((fitted[0], "1"), (tmp_path, "1"), (tmp_path, "2"))
    )
    for file in (MODEL, MANIFEST):  # run.json alone holds what differs
        assert (again / file).read_bytes() == (first / file).read_bytes(), file
        assert (other / file).read_bytes() != (first / file).read_bytes(), file
    seeds = [parse((package / MANIFEST).read_bytes()).provenance["seed"] for package in (again, other)]
    assert seeds == [0, 1]
    # The spread, from the records of both.
    values = [runs.read(tmp_path / "runs" / "topic" / f"best-seed{seed}").test["accuracy"] for seed in seeds]
    [spread] = [line for line in done.stdout.splitlines() if f" {np.mean(values):.4f} " in line and "best" in line][-1:]
    for figure in (np.std(values, ddof=1), min(values), max(values)):
        assert f" {figure:.4f} " in spread


def test_tuned_houses_validated_by_iterated_k_fold_until_they_get_no_better(tiny: Tiny, tmp_path: Path) -> None:
    chosen = Hyperparameters((5,), "tanh", dropout=0.0, l2=1e-4, optimizer="adam", epochs=3)
    write(tmp_path / "best.json", Best("house_price", chosen, "mae", 1.0, "by hand", "random", 1, 0))
    ways = ("--protocol", "iterated-k-fold", "--folds", 2, "--iterations", 3, "--early-stopping", 1)
    places = ("--out", tmp_path / "models", "--runs", tmp_path / "runs")
    done = tiny.run("fit", "house_price", "--hyperparameters", tmp_path / "best.json", *ways, *places)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nor does TensorFlow complain of six networks of one kind
    # A run of its own: it stopped early, and may have come out otherwise than one that did not.
    record = runs.read(tmp_path / "runs" / "house_price" / "tuned-seed0-early-stopping-1")
    assert (record.recipe, record.hyperparameters["hidden"]) == ("tuned", [5])
    assert len(record.splits) == 6
    assert list(record.splits) == list(dict.fromkeys(epoch.stage for epoch in record.epochs))[:-1]
    assert record.validation["mae"] == pytest.approx(np.mean([split["mae"] for split in record.splits.values()]))
    for told in ("mean of 3 times 2-fold validation on the 80 training samples", "with a patience of 1"):
        assert told in record.protocol
    provenance = parse((tmp_path / "models" / "house_price" / "1" / MANIFEST).read_bytes()).provenance
    assert provenance["recipe"] == "tuned"
    assert provenance["options"] == {"early_stopping": 1}
    final = [epoch for epoch in record.epochs if epoch.stage == "final"]
    assert provenance["hyperparameters"] == record.hyperparameters
    assert record.hyperparameters["epochs"] == len(final)


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
    assert "peak memory" in done.stdout
    assert not [heading for heading in ("device", "epoch", "samples/s", "training ┃") if heading in done.stdout]
    assert (tmp_path / "topic/5" / MODEL).read_bytes() == (folder / "models/topic/1" / MODEL).read_bytes()
    manifest = parse((tmp_path / "topic/5" / MANIFEST).read_bytes())
    assert "network_sha256" in manifest.provenance
    assert not any(metric.startswith("validation_") for metric in manifest.metrics)


def test_export_in_float16(tiny: Tiny, fitted: tuple[Path, str], tmp_path: Path) -> None:
    network = fitted[0] / "networks" / "house_price.keras"
    made = run(Job(tiny.best["house_price"], data=tiny.data, out=tmp_path, network=network, export_precision="float16"))
    assert made is not None
    manifest = parse((made.package / MANIFEST).read_bytes())
    assert manifest.provenance["export_precision"] == "float16"
    assert made.test["mae"] == pytest.approx(manifest.metrics["test_mae"], abs=1e-6)
    assert 0 < abs(made.test["mae"] - manifest.metrics["float32_test_mae"]) < 0.01
    before = parse((fitted[0] / "models" / "house_price" / "1" / MANIFEST).read_bytes())
    assert manifest.files[MODEL].bytes < before.files[MODEL].bytes


def test_a_fit_in_float16_leaves_the_record_of_another_alone(tiny: Tiny, tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny.recipes["house_price"], epochs=1, folds=0, validation_samples=10)
    asked = Job(recipe, data=tiny.data, out=tmp_path / "models", runs=tmp_path / "runs", export_precision="float16")
    made = run(asked)
    assert made is not None
    assert made.run == tmp_path / "runs" / "house_price" / "book-seed0-export-precision-float16"
    assert runs.read(made.run).provenance["options"] == {"export_precision": "float16"}


@pytest.mark.parametrize("command", [["fit", "topic"], ["export", "topic", "topic.keras"]], ids=lambda given: given[0])
def test_what_a_package_computes_in_is_asked_for(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Job] = []
    monkeypatch.setattr("training.commands.fit.run_in_own_process", lambda _, job, name: asked.append(job))
    main(command)
    main([*command, "--export-precision", "float16"])
    assert [job.export_precision for job in asked] == ["float32", "float16"]


def test_evaluate(
    tiny: Tiny, fitted: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.evaluate.RECIPES", tiny.recipes)
    for name, metric in (("topic", "accuracy"), ("house_price", "mae")):
        package = fitted[0] / "models" / name / "1"
        assert main(["evaluate", str(package), "--data", str(tiny.data)]) == 0
        [row] = [line for line in capsys.readouterr().out.splitlines() if f" {metric} " in line]
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
        (["fit", "topic", "--seed", "-1"], "--seed -1: expected a number from 0 to 4294967295"),
        (["fit", "topic", "--seeds", "1"], "--seeds must be 2 or more, and goes without --version"),
        (["fit", "topic", "--seeds", "2", "--version", "3"], "--seeds must be 2 or more, and goes without --version"),
        (["fit", "topic", "--hyperparameters", "no"], "no: no hyperparameters: "),
        (["fit", "topic", "--recipe", "best", "--hyperparameters", "x"], "--hyperparameters are of the book's recipe"),
        (["fit", "house_price", "--protocol", "hold-out"], "house_price has too few samples to hold some out"),
        (["fit", "topic", "--protocol", "k-fold", "--folds", "1"], "1 folds, 3 iterations: expected at least 2 and 1"),
        (["fit", "topic", "--folds", "5"], "--folds and --iterations say how --protocol k-fold"),
        (["fit", "topic", "--early-stopping", "0"], "early stopping after 0 epochs: expected 1 or more"),
        (["fit", *NAMES, "--distribute", "multi-worker"], "--distribute multi-worker: expected one model"),
        (["tune", "topic", "--trials", "0"], "--trials must be 1 or more"),
        (["tune", "topic", "--seed", "-1"], "--seed -1: expected a number from 0 to"),
        (["experiments"], "name a model: "),
        (["experiments", "poetry"], "name a model: "),
        (["experiments", "topic", "no-such"], "topic has no experiment"),
        (["publish", "nowhere", "there"], "nowhere holds no package"),
        (["report", "nowhere"], "nowhere is not a run"),
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


def test_one_seed_or_several(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "topic", "--seed", "1", "--seeds", "2"])
    assert caught.value.code == 2
    assert "--seeds: not allowed with argument --seed" in capsys.readouterr().err


def test_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "poetry"])
    assert caught.value.code == 2
    assert "sentiment" in capsys.readouterr().err


def test_a_process_that_dies_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def dies(*_: object) -> None:
        raise EndedEarlyError("topic: its process ended early, exit code -9")

    monkeypatch.setattr("training.commands.fit.run_in_own_process", dies)
    assert main(["fit", "topic"]) == 75
    assert capfd.readouterr().err == "error: topic: its process ended early, exit code -9\n"


def test_what_is_in_the_way_is_told_before_any_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file is not a folder"):
        run(Job(RECIPES["topic"], data=tmp_path, out=tmp_path / "file" / "models"))
    assert capfd.readouterr().out == ""


def test_a_folder_of_versions_is_no_package(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(REPOSITORY / "models" / "topic")]) == 1
    assert f"; it holds versions, such as {REPOSITORY / 'models' / 'topic' / '1'}" in capfd.readouterr().err
