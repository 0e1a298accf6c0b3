"""What a record's epochs say: a figure by epoch, where it is best, and how far it comes away from there."""

from dataclasses import dataclass

import numpy as np

from training.data import Array
from training.report.curves import LEFT_OUT
from training.report.curves import smooth as moving_average
from training.runs import Record


@dataclass(frozen=True)
class Curve:
    """One figure after each epoch, the mean over the folds where there are some."""

    epochs: Array
    """[N], counted from 1, ascending."""
    values: Array
    """[N]."""
    is_better_high: bool = False

    @property
    def best(self) -> float:
        """The best value."""
        return float(self.values[self._place])

    @property
    def best_epoch(self) -> int:
        """The first epoch that has it."""
        return int(self.epochs[self._place])

    @property
    def end(self) -> int:
        """The last epoch."""
        return int(self.epochs[-1])

    @property
    def last(self) -> float:
        """The value after it."""
        return float(self.values[-1])

    @property
    def rise(self) -> float:
        """How far the last value is from the best, as a share of the best."""
        return self.last / self.best - 1

    def at(self, epoch: int) -> float:
        """The value after `epoch`, or after the last one where there are fewer."""
        return float(self.values[min(int(np.searchsorted(self.epochs, epoch)), len(self.values) - 1)])

    @property
    def _place(self) -> int:
        return int(self.values.argmax() if self.is_better_high else self.values.argmin())


def curve(record: Record, figure: str) -> Curve:
    """The `figure` of `record`, such as `val_loss`, as Keras gave it."""
    stages = dict.fromkeys(epoch.stage for epoch in record.epochs)
    parts = [[epoch.figures[figure] for epoch in record.epochs if epoch.stage == stage] for stage in stages]
    values = np.mean(parts, axis=0)
    return Curve(np.arange(1, len(values) + 1), values, figure.endswith("accuracy"))


def smooth(rough: Curve) -> Curve:
    """`rough` without its first `LEFT_OUT` epochs, as a moving average; a curve of few epochs as it is.

    Source: Chollet, Deep Learning with Python, 2nd ed., §4.3.4 (the epochs left out), 1st ed., §3.6.4 (the average).
    """
    if len(rough.values) <= 2 * LEFT_OUT:
        return rough
    values = np.array(moving_average(rough.values[LEFT_OUT:].tolist()))
    return Curve(rough.epochs[LEFT_OUT:], values, rough.is_better_high)


def loss(record: Record) -> Curve:
    """The validation loss, Keras's: with the penalties on the weights in it. Smoothed as the metric is."""
    return _judged(record, "val_loss")


def metric(record: Record) -> Curve:
    """The validation metric: accuracy, a share, or the mean absolute error in the target's unit.

    A regression's is smoothed: its few samples make single epochs jump.
    """
    return _judged(record, f"val_{record.metric}")


def _judged(record: Record, figure: str) -> Curve:
    found = curve(record, figure)
    return smooth(found) if record.task == "regression" else found


def folds(record: Record, figure: str) -> list[float]:
    """The `figure` after the last epoch of each fold."""
    return [epoch.figures[figure] for epoch in record.epochs if epoch.done == epoch.of]


def percent(share: float) -> str:
    """A change as people write it, such as "+12 %"."""
    return f"{100 * share:+.0f} %"
