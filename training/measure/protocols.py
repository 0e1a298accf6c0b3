"""Evaluation protocols: which training samples are held out, and the figures of a model fitted on the rest.

Source: Chollet, Deep Learning with Python, 2nd ed., §5.2 (hold-out, K-fold, iterated K-fold with shuffling).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, KFold

from training.data import Array
from training.errors import TrainingError
from training.measure.bootstrap import mean_sd

Rows = npt.NDArray[np.int64]
Predict = Callable[[Rows], Array]
"""Gives the predictions for some rows."""
Fit = Callable[[Rows], Predict]
"""Fits a new model on some rows, and on nothing else."""
Score = Callable[[Array, Rows], dict[str, float]]
"""Given predictions and the rows they are for; gives figures by name."""
Report = Callable[[str, int, int, dict[str, float]], None]
"""Told after each split: its name, the splits done, the splits in all, and its figures."""


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to measure on, both ascending; no row is in both."""

    train: Rows
    validation: Rows
    name: str


@dataclass(frozen=True)
class Scores:
    """The figures of each split, and over all splits."""

    splits: dict[str, dict[str, float]]
    """Figures by the split's name."""
    mean: dict[str, float]
    """Of the figures that every split has."""
    sd: dict[str, float]
    """Standard deviation (n - 1) of the same; empty where there is one split. Splits share training samples, so this
    is the spread between folds and not the error of the mean."""


def hold_out(count: int, validation: int, seed: int | None = None, groups: Array | None = None) -> list[Split]:
    """One split: the first `validation` rows, as in the book, or random ones, are held out.

    Args:
        count: rows in all.
        validation: rows to hold out.
        seed: of the choice; None means the first ones.
        groups: [count]; rows of one group stay together. Groups are held out in turn while they fit, so that a few
            rows fewer than asked for may be.

    Raises:
        TrainingError: nothing or everything would be held out, or `groups` is of another length.
    """
    if not 0 < validation < count:
        raise TrainingError(f"hold-out of {validation:,} of {count:,} rows: expected 1 to {max(count - 1, 1):,}")
    members = _checked(groups, count)
    if members is None:
        order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
        return [_split(order[:validation], count, "validation")]
    # Groups are numbered as they first occur, so that without a seed the first rows are held out.
    _, first, members = np.unique(members, return_index=True, return_inverse=True)
    sizes = np.bincount(members)
    order = np.argsort(first) if seed is None else np.random.default_rng(seed).permutation(len(sizes))
    chosen, room = np.zeros(len(sizes), bool), validation
    for group in order:
        if sizes[group] <= room:
            chosen[group] = True
            room -= sizes[group]
    if room == validation:
        raise TrainingError(f"hold-out of {validation:,} rows: the smallest group has {sizes.min():,}")
    return [_split(np.flatnonzero(chosen[members]), count, "validation")]


def k_fold(count: int, k: int, seed: int | None = None, groups: Array | None = None) -> list[Split]:
    """`k` splits, each row held out in exactly one; folds differ by one row at most where there are no groups.

    Args:
        count: rows in all.
        k: folds.
        seed: of the shuffling; None means consecutive rows, as in the book.
        groups: [count]; rows of one group stay together, so that folds are of about the same size.

    Raises:
        TrainingError: fewer than 2 folds, more folds than rows or groups, or `groups` is of another length.
    """
    members = _checked(groups, count)
    what, most = ("rows", count) if members is None else ("groups", len(np.unique(members)))
    if not 2 <= k <= most:
        raise TrainingError(f"{k} folds of {most:,} {what}: expected 2 to {max(most, 2):,}")
    folder = (KFold if members is None else GroupKFold)(k, shuffle=seed is not None, random_state=seed)
    parts = folder.split(np.empty((count, 0)), groups=members)
    return [_split(held_out, count, f"fold {number}/{k}") for number, (_, held_out) in enumerate(parts, start=1)]


def iterated_k_fold(count: int, k: int, iterations: int, seed: int, groups: Array | None = None) -> list[Split]:
    """K-fold validation `iterations` times over, shuffled anew each time: for little data and precise figures.

    Args:
        count: rows in all.
        k: folds.
        iterations: how many times.
        seed: of all the shuffling.
        groups: [count]; rows of one group stay together.

    Raises:
        TrainingError: as `k_fold`, or fewer than 1 iteration.
    """
    if iterations < 1:
        raise TrainingError(f"{iterations} iterations: expected at least 1")
    seeds = np.random.SeedSequence(seed).generate_state(iterations).tolist()
    return [
        Split(fold.train, fold.validation, f"iteration {number}/{iterations}, {fold.name}")
        for number, each in enumerate(seeds, start=1)
        for fold in k_fold(count, k, each, groups)
    ]


def evaluate(splits: Sequence[Split], fit: Fit, score: Score, report: Report) -> Scores:
    """Fit a new model on each split's training rows and measure it on those held out.

    Args:
        splits: of one protocol.
        fit: makes a model from training rows.
        score: measures its predictions.
        report: told of progress.

    Raises:
        TrainingError: there are no splits, or two of one name.
    """
    if len({split.name for split in splits}) != len(splits) or not splits:
        raise TrainingError(f"a protocol needs splits of different names: found {[split.name for split in splits]}")
    scores: dict[str, dict[str, float]] = {}
    for done, split in enumerate(splits, start=1):
        predict = fit(split.train)
        scores[split.name] = score(predict(split.validation), split.validation)
        report(split.name, done, len(splits), scores[split.name])
    folds = list(scores.values())
    shared = [name for name in folds[0] if all(name in figures for figures in folds)]
    spread = {name: mean_sd([figures[name] for figures in folds]) for name in shared}
    return Scores(
        splits=scores,
        mean={name: mean for name, (mean, _) in spread.items()},
        sd={name: sd for name, (_, sd) in spread.items() if sd is not None},
    )


def _checked(groups: Array | None, count: int) -> Array | None:
    if groups is not None and np.shape(groups) != (count,):
        raise TrainingError(f"groups must be [{count}], one for each row: found {list(np.shape(groups))}")
    return None if groups is None else np.asarray(groups)


def _split(held_out: Array, count: int, name: str) -> Split:
    held = np.zeros(count, bool)
    held[held_out] = True
    return Split(np.flatnonzero(~held), np.flatnonzero(held), name)
