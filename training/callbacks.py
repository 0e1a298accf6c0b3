"""What happens after each epoch of a stage: reports, early stopping, TensorBoard's logs, checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from training.options import Options

Report = Callable[[str, int, int, dict[str, float]], None]
"""Told after each epoch: the stage, the epochs done, the epochs in all, and the epoch's figures: training loss and
metric and, where samples are held out, the same on those, under names that begin with `val_`."""

VALIDATION_LOSS = "val_loss"


def callbacks(
    options: Options, stage: str, epochs: int, report: Report, held_out: bool, writes: bool
) -> list[keras.callbacks.Callback]:
    """Keras's callbacks for one stage.

    Args:
        options: what was asked for.
        stage: its name; logs and checkpoints go to a folder of that name.
        epochs: how many it has, at most.
        report: told after each.
        held_out: whether samples are held out: without, there is no best epoch, and nothing to stop for.
        writes: whether this process writes files; of several workers only one does.
    """

    def on_epoch_end(epoch: int, logs: dict[str, Any]) -> None:
        report(stage, epoch + 1, epochs, {name: float(value) for name, value in logs.items()})

    made = [keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)]
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


def folder(under: Path, stage: str) -> Path:
    """Where `stage` writes to: "fold 2/4" has a folder fold-2-of-4."""
    return under / stage.replace("/", "-of-").replace(" ", "-")
