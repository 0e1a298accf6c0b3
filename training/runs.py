"""Run folders: what a fit, an experiment or a trial of a search leaves behind for people and for reports.

`<runs>/<model>/<recipe>-seed<N>/` holds `record.json` (what was run, and what came out), `predictions.npz` (the test
set's predictions and targets) and whatever else was asked for: checkpoints, TensorBoard's logs, the saved network.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from training.data import Array
from training.errors import TrainingError, one_line

RECORD, PREDICTIONS = "record.json", "predictions.npz"
REPORT = ("report.html", "report.md", "figures")
"""What `python -m training report` makes of them."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one stage: its place, and its figures as Keras names them (`loss`, `val_loss`, `accuracy` …)."""

    stage: str
    """Such as "validation", "fold 2/4" or "final"."""
    done: int
    of: int
    figures: dict[str, float]
    seconds: float = 0.0
    """Training alone, without measuring on what is held out; a stage's first includes compilation."""
    samples: int = 0
    """How many it trained on."""


@dataclass(frozen=True)
class Device:
    """What a network was trained on."""

    name: str
    """"cpu", or as CUDA counts it: "cuda:0"."""
    model: str = ""
    """Such as "NVIDIA H200"; empty where nothing says it."""
    compute_capability: str = ""
    """Of a GPU, such as "9.0"."""

    def __str__(self) -> str:
        """For people."""
        capability = self.compute_capability and f"compute capability {self.compute_capability}"
        known = ", ".join(part for part in (self.model, capability) if part)
        return f"{self.name} ({known})" if known else self.name


@dataclass(frozen=True)
class Mistake:
    """A test sample that the model was wrong about."""

    row: int
    text: str
    """The text, or the features in words."""
    target: str
    predicted: str
    score: float
    """How wrong: the probability of the wrong class, or the error in the target's unit."""


@dataclass(frozen=True)
class Record:
    """A run, as `record.json` holds it."""

    model: str
    recipe: str
    seed: int
    task: str
    metric: str
    labels: list[str]
    hyperparameters: dict[str, Any]
    provenance: dict[str, Any]
    protocol: str
    """How the validation figures were measured."""
    epochs: list[Epoch]
    validation: dict[str, float]
    seconds: float
    """Wall time of the whole run."""
    training_seconds: float | None
    """Training of the final network alone."""
    peak_memory_bytes: int
    devices: list[Device] = field(default_factory=list)
    """What it was trained on; empty in records made before there was a choice."""
    splits: dict[str, dict[str, float]] = field(default_factory=dict)
    """The validation figures of each split, by its name."""
    test: dict[str, float] = field(default_factory=dict)
    """Figures on the test set; empty for an experiment, which never sees it."""
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same figures for each baseline."""
    book: float | None = None
    """The test metric that the book reports, where it does."""
    mistakes: list[Mistake] = field(default_factory=list)
    duplicates: str = ""
    """What was found of samples that are there twice."""
    package: str = ""
    """The folder of the package that the run published; empty where it published none."""
    gate: str = ""
    """How it compared with the package before it."""


def folder(
    runs: Path, model: str, recipe: str, seed: int, options: Mapping[str, object] = MappingProxyType({})
) -> Path:
    """Where the run of `recipe` with `seed`, and with `options` that change what comes out, goes."""
    asked = "".join(f"-{name.replace('_', '-')}-{str(value).replace(':', '')}" for name, value in options.items())
    return runs / model / f"{recipe}-seed{seed}{asked}"


def write(path: Path, record: Record, predictions: Array | None = None, targets: Array | None = None) -> None:
    """Write `record` to the folder `path`; `record.json` comes last, so a folder that has one is whole.

    Args:
        path: the run's folder; made where it is missing.
        record: what was run.
        predictions: [N, outputs], the final network's on the test set.
        targets: [N], the test set's.
    """
    path.mkdir(parents=True, exist_ok=True)
    for old in (RECORD, PREDICTIONS, *REPORT):  # of a run before this one
        if (path / old).is_dir():
            shutil.rmtree(path / old)
        else:
            (path / old).unlink(missing_ok=True)
    if predictions is not None and targets is not None:
        np.savez_compressed(path / PREDICTIONS, predictions=predictions, targets=targets)
    temporary = path / f".{RECORD}"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    temporary.replace(path / RECORD)


def read(path: Path) -> Record:
    """The record in the folder `path`.

    Raises:
        TrainingError: there is none, or it is not one of this version.
    """
    try:
        return msgspec.json.decode((path / RECORD).read_bytes(), type=Record)
    except FileNotFoundError as error:
        raise TrainingError(f"{path} is not a run: it holds no {RECORD}. A fit writes one under --runs.") from error
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(f"{path / RECORD} can't be read: {one_line(error)}") from error


def read_predictions(path: Path) -> tuple[Array, Array] | None:
    """The test set's predictions [N, outputs] and targets [N] in the folder `path`; None where there are none."""
    if not (path / PREDICTIONS).exists():
        return None
    with np.load(path / PREDICTIONS) as file:
        return file["predictions"], file["targets"]
