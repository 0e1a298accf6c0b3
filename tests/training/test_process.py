"""A process of its own gives back what came of the work, or why nothing did."""

import dataclasses
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.errors import DataError, TrainingError
from training.job import Job, run
from training.process import run_in_own_process

from .conftest import REPOSITORY, Tiny


def test_a_failure_crosses_the_process_boundary(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.npz is missing"):
        run_in_own_process(run, Job(tiny.recipes["topic"], data=tmp_path, out=tmp_path / "models"), "topic")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_told(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = dataclasses.replace(tiny.recipes["topic"], dataset=None)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="topic: its process ended early, exit code 1"):
        run_in_own_process(run, Job(broken, data=tiny.data, out=tmp_path), "topic")
    assert "Traceback" in capfd.readouterr().err


def wait_for_ever(line: str) -> None:
    """Work that prints `line` when it has begun, and doesn't end."""
    print(line, flush=True)
    threading.Event().wait()


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.training.test_process import wait_for_ever
from training.process import run_in_own_process
run_in_own_process(wait_for_ever, "begun", "work")
"""


@pytest.mark.parametrize(
    ("signal_", "ended_by"),
    [(signal.SIGTERM, signal.SIGINT), (signal.SIGKILL, signal.SIGKILL)],  # SIGTERM is taken for Ctrl-C
    ids=["terminated", "killed"],
)
def test_work_ends_with_the_process_that_ordered_it(signal_: signal.Signals, ended_by: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(REPOSITORY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal_)
        assert process.stdout.read() == ""  # until the worker, which has the other end too, is gone
        assert process.wait(60) == -ended_by
