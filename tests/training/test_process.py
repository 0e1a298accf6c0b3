"""A process of its own gives back what came of the work, or why nothing did."""

import dataclasses
from pathlib import Path

import pytest

from training.errors import DataError, TrainingError
from training.job import Job, run
from training.process import run_in_own_process

from .conftest import Tiny


def test_a_failure_crosses_the_process_boundary(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.npz is missing"):
        run_in_own_process(run, Job(tiny.recipes["topic"], data=tmp_path, out=tmp_path / "models"), "topic")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_told(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = dataclasses.replace(tiny.recipes["topic"], dataset=None)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="topic: its process ended early, exit code 1"):
        run_in_own_process(run, Job(broken, data=tiny.data, out=tmp_path), "topic")
    assert "Traceback" in capfd.readouterr().err
