"""The command `experiments`, without the training."""

import argparse
from pathlib import Path

import pytest

from training import runs
from training.commands import experiments
from training.commands.common import parents
from training.errors import TrainingError
from training.experiments import run as running
from training.experiments.run import Experiment, folder

from .histories import made_up, valley


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    experiments.add(parser.add_subparsers(required=True), parents())
    options = parser.parse_args(["experiments", *map(str, arguments)])
    code: int = options.run(options)
    return code


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The experiments that were run, as model and variant; each leaves a made-up record."""
    done: list[str] = []

    def run(_: object, experiment: Experiment, name: str) -> None:
        done.append(name)
        runs.write(experiment.folder, made_up(*name.split(), valley(4, 0.5)))  # type: ignore[arg-type]

    monkeypatch.setattr(running, "run_in_own_process", run)
    return done


def test_named_experiments_are_run_and_compared(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("sentiment", "l2", "dropout", "--runs", tmp_path) == 0
    assert ran == ["sentiment l2", "sentiment dropout"]
    at = folder(tmp_path, "sentiment")
    assert sorted(path.name for path in at.iterdir()) == ["comparison.md", "curves.svg", "dropout", "l2"]
    shown = capsys.readouterr().out
    assert "needs book" in shown
    assert str(at / "comparison.md") in shown
    assert call("sentiment", "l2", "book", "--runs", tmp_path) == 0
    assert ran[2:] == ["sentiment book"]
    assert "needs book" not in capsys.readouterr().out


def test_all_of_several_models_and_a_page_of_all(ran: list[str], tmp_path: Path) -> None:
    assert call("topic", "sentiment", "--all", "--runs", tmp_path / "runs") == 0
    assert len(ran) == 24
    # Without names it compares what is there.
    assert call("topic", "--runs", tmp_path / "runs", "--write", tmp_path / "docs") == 0
    assert len(ran) == 24
    page = (tmp_path / "docs" / "experiments.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## sentiment", "## topic"]
    assert call("topic", "one-hot", "--again", "--runs", tmp_path / "runs") == 0
    assert ran[24:] == ["topic one-hot"]


def test_the_list(ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--list") == 0
    shown = capsys.readouterr().out
    assert "bottleneck" in shown
    assert "hidden=(64, 4)" in shown
    assert call("house_price", "--list") == 0
    shown = capsys.readouterr().out
    assert "missing=0.2" in shown
    assert "bottleneck" not in shown
    assert ran == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all"], "name a model: sentiment, topic, house_price"),
        (["l2"], "name a model|sentiment has no experiment"),
        (["digits", "--all"], "no experiments with digits"),
        (["topic", "l3"], "topic has no experiment 'l3', only book"),
        (["topic", "l2", "--all"], "--all or l2: not both"),
        (["topic"], "holds no experiments: name some, or say --all"),
    ],
)
def test_errors_say_what_to_do(ran: list[str], tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        call(*arguments, "--runs", tmp_path)
    assert ran == []
    assert list(tmp_path.iterdir()) == []
