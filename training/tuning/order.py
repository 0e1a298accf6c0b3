"""What is asked of a search, and what a trial of it says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from training.models import Recipe
from training.options import DEFAULT, Options
from training.tuning.best import Hyperparameters

Kind = Literal["random", "hyperband"]

TRIALS = 20

Progress = Callable[[str], None]
"""Told of each trial, in one line."""


@dataclass(frozen=True)
class Search:
    """What to search for, and how long."""

    recipe: Recipe
    data: Path | None
    runs: Path
    kind: Kind
    trials: int | None
    """How many; None: all that Hyperband has, or `TRIALS`."""
    epochs: int
    """How long a trial trains, at most."""
    seed: int
    options: Options = DEFAULT
    """What trials are trained on."""

    @property
    def folder(self) -> Path:
        """KerasTuner's project folder."""
        return self.runs / "tune" / self.recipe.name


class Trial(msgspec.Struct, frozen=True):
    """A choice of hyperparameters, and what validation said of it."""

    name: str
    hyperparameters: Hyperparameters
    value: float
    """The recipe's metric."""
    seconds: float
