"""Exact duplicates among samples: what a test set shares with training is remembered, not predicted."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data import Array, Sequences, Table
from training.errors import TrainingError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Which samples are the same, byte for byte: rows of one group are copies of one another, whichever their set."""

    train_groups: Rows
    """[training samples]: the group of each, for `training.measure.protocols`."""
    test_groups: Rows
    """[test samples]: the group of each, counted on from training; empty where no test samples were given."""
    train_repeats: int
    """Training samples that are copies of an earlier one."""
    test_repeats: int
    """Test samples that are copies of an earlier test sample."""
    shared: Rows
    """Test rows that are also in training."""
    disagreeing: Rows | None
    """Those of `shared` with a copy in training that is labelled otherwise; None where labels were not given."""
    train_disagreeing: int | None
    """Training samples with a copy in training that is labelled otherwise; None where labels were not given."""

    def describe(self) -> str:
        """A line for people."""
        train, test = len(self.train_groups), len(self.test_groups)
        line = f"{self.train_repeats:,} of {train:,} training samples repeat an earlier one"
        if self.train_disagreeing is not None:
            line += f" ({self.train_disagreeing:,} have a copy labelled otherwise)"
        if not test:
            return line
        line += f"; {self.test_repeats:,} of {test:,} test samples repeat an earlier one"
        line += f"; {len(self.shared):,} test samples ({len(self.shared) / test:.1%}) are also in training"
        if self.disagreeing is not None:
            line += f", {len(self.disagreeing):,} of them labelled otherwise there"
        return line


def find(
    x_train: Sequences | Table,
    x_test: Sequences | Table | None = None,
    *,
    y_train: Array | None = None,
    y_test: Array | None = None,
) -> Duplicates:
    """Samples that are the same within and across the splits, all words and all digits compared.

    Args:
        x_train: training samples.
        x_test: test samples of the same kind; None means that there is one set only.
        y_train: their labels [N]; without labels nothing is said of disagreement.
        y_test: the test labels [N].

    Raises:
        TrainingError: no training samples, two sets of different kinds, or labels of another length.
    """
    if not len(x_train):
        raise TrainingError("duplicates need training samples: found none")
    if x_test is not None and _kind(x_train) != _kind(x_test):
        raise TrainingError(f"training samples are {_kind(x_train)}, test samples {_kind(x_test)}: expected one kind")
    for name, x, y in (("training", x_train, y_train), ("test", x_test, y_test)):
        if x is not None and y is not None and len(x) != len(y):
            raise TrainingError(f"{len(x):,} {name} samples have {len(y):,} labels: expected as many")
    seen: dict[bytes, int] = {}
    train = _groups(x_train, seen)
    known = len(seen)  # groups from here on are in the test set only
    test = _groups(x_test, seen) if x_test is not None else np.empty(0, np.int64)
    shared = np.flatnonzero(test < known)
    disagreeing = train_disagreeing = None
    if y_train is not None:
        lowest, highest = _label_range(train, y_train, known)
        mixed = lowest < highest
        train_disagreeing = int(mixed[train].sum())
        if y_test is not None:
            groups, labels = test[shared], y_test[shared]
            disagreeing = shared[(lowest[groups] != labels) | (highest[groups] != labels)]
    return Duplicates(
        train_groups=train,
        test_groups=test,
        train_repeats=len(train) - known,
        test_repeats=len(test) - len(np.unique(test)),
        shared=shared,
        disagreeing=disagreeing,
        train_disagreeing=train_disagreeing,
    )


def _kind(x: Sequences | Table) -> str:
    return "texts" if isinstance(x, Sequences) else f"{x.values.dtype} {list(x.values.shape[1:])}"


def _groups(x: Sequences | Table, seen: dict[bytes, int]) -> Rows:
    """[len(x)]: a number for each sample, the same for the same bytes; new ones are added to `seen`."""
    # Digests, so that the samples are not all held a second time.
    digests = (hashlib.blake2b(sample, digest_size=16).digest() for sample in _samples(x))
    return np.fromiter((seen.setdefault(each, len(seen)) for each in digests), np.int64, len(x))


def _samples(x: Sequences | Table) -> Iterator[bytes]:
    if isinstance(x, Sequences):
        return (x[row].tobytes() for row in range(len(x)))
    # Adding 0 makes -0.0, which equals it, 0.0 in its bytes too.
    return ((row + row.dtype.type(0)).tobytes() for row in x.values)


def _label_range(groups: Rows, labels: Array, count: int) -> tuple[Array, Array]:
    """[count]: the lowest and the highest label in each group; they differ where copies disagree."""
    order = np.lexsort((labels, groups))
    starts = np.searchsorted(groups[order], np.arange(count))
    stops = np.append(starts[1:], len(order))
    return labels[order][starts], labels[order][stops - 1]
