"""A process of its own gives back what came of the work, or why nothing did."""

import dataclasses
import signal
import subprocess
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


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_work_ends_with_the_process_that_ordered_it(tiny: Tiny, tmp_path: Path, signal_: signal.Signals) -> None:
    command = tiny.training_long("topic").arguments("fit", "topic", "--out", tmp_path / "models")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert any("validation, epoch" in line for line in process.stdout)  # waits until it is that far
        process.send_signal(signal_)
        process.stdout.read()  # until the worker, which has the other end too, is gone
        assert process.wait(60) == (130 if signal_ == signal.SIGTERM else -signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
