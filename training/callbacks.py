"""What happens after each epoch of a stage: reports, early stopping, TensorBoard's logs, checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from training.options import Options
from training.runs import Epoch

Report = Callable[[Epoch], None]
"""Told after each epoch. Its figures are training loss and metric and, where samples are held out, the same on those,
under names that begin with `val_`."""

VALIDATION_LOSS = "val_loss"


def callbacks(
    options: Options, stage: str, epochs: int, samples: int, report: Report, held_out: bool, writes: bool
) -> list[keras.callbacks.Callback]:
    """Keras's callbacks for one stage.

    Args:
        options: what was asked for.
        stage: its name; logs and checkpoints go to a folder of that name.
        epochs: how many it has, at most.
        samples: how many it trains on.
        report: told after each.
        held_out: whether samples are held out: without, there is no best epoch, and nothing to stop for.
        writes: whether this process writes files; of several workers only one does.
    """
    made = [Reports(stage, epochs, samples, report, is_awaited=options.is_distributed)]
    if options.early_stopping is not None and held_out:
        made.append(
            keras.callbacks.EarlyStopping(VALIDATION_LOSS, patience=options.early_stopping, restore_best_weights=True)
        )
    if options.tensorboard is not None and writes:
        # Scalars only: a graph of three layers says nothing, and profiling costs time.
        made.append(keras.callbacks.TensorBoard(folder(options.tensorboard, stage), write_graph=False, profile_batch=0))
    if options.checkpoints is not None and writes:
        place = folder(options.checkpoints, stage)
        place.mkdir(parents=True, exist_ok=True)
        made.append(keras.callbacks.ModelCheckpoint(place / "last.keras"))
        if held_out:
            best = keras.callbacks.ModelCheckpoint(place / "best.keras", VALIDATION_LOSS, save_best_only=True)
            made.append(best)
    return made


class Reports(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each epoch of a stage, and how long training it took.

    Args:
        stage: its name.
        epochs: how many it has, at most.
        samples: how many it trains on.
        report: told after each.
        clock: gives seconds.
        is_awaited: whether training has waited for each batch's figures, as our own loop over several devices does.
    """

    def __init__(
        self,
        stage: str,
        epochs: int,
        samples: int,
        report: Report,
        clock: Callable[[], float] = time.perf_counter,
        is_awaited: bool = False,
    ) -> None:
        super().__init__()
        self._stage, self._epochs, self._samples, self._report, self._clock = stage, epochs, samples, report, clock
        self._is_awaited = is_awaited
        self._began = 0.0
        self._seconds: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began, self._seconds = self._now(), None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Measuring on what is held out, which comes before the end of the epoch, is no training."""
        self._seconds = self._now() - self._began

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = self._now() - self._began if self._seconds is None else self._seconds
        figures = {name: float(value) for name, value in (logs or {}).items()}
        self._report(Epoch(self._stage, epoch + 1, self._epochs, figures, seconds, self._samples))

    def _now(self) -> float:
        if not self._is_awaited:  # a GPU is still at work when TensorFlow has handed it the last batch
            tf.test.experimental.sync_devices()
        return self._clock()


def folder(under: Path, stage: str) -> Path:
    """Where `stage` writes to: "fold 2/4" has a folder fold-2-of-4."""
    return under / stage.replace("/", "-of-").replace(" ", "-")
