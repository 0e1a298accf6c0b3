"""The publishing gate: a new version must not be significantly worse than the one that it would take over from.

Both answer the whole test set, and the paired bootstrap says whether the difference could be chance (Efron &
Tibshirani, An Introduction to the Bootstrap, 1993; Koehn, EMNLP 2004).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.package.manifest import MANIFEST, MODEL, parse
from training.data import Array, Data
from training.errors import GateError, TrainingError, one_line
from training.evaluate import answers, per_sample
from training.measure.bootstrap import Comparison, paired
from training.models import Recipe
from training.options import ExportPrecision
from training.packaging.package import versions

SEED = 0
SAME = 1e-3
"""Errors that differ by less (a dollar) count as equal: Keras and ONNX Runtime don't round alike, and a network must
not be found worse than its own package."""


@dataclass(frozen=True)
class Verdict:
    """How a network compares with the version before it."""

    against: str
    """That version as name/version; empty where there is none."""
    comparison: Comparison | None
    """Of the metric for each test sample, higher is better; None where there is nothing to compare with."""
    metric: str
    forced: bool
    """Whether it is published although it is significantly worse, or can't be compared."""

    def __str__(self) -> str:
        if not self.against:
            return "the first version"
        if self.comparison is None:
            return f"not compared with {self.against}, forced"
        word = (
            "significantly better than"
            if self.comparison.significantly_better
            else "significantly worse than"
            if self.comparison.significantly_worse
            else "not significantly different from"
        )
        # As people read the metric: of an error less is better.
        sign, name = (-1, "MAE") if self.metric == "mae" else (1, self.metric)
        low, high = sorted((sign * self.comparison.low, sign * self.comparison.high))
        figures = f"{name} {sign * self.comparison.difference:+.4f} (95 %: {low:+.4f} to {high:+.4f})"
        return f"{word} {self.against}: {figures}{', forced' if self.forced else ''}"


def judge(
    recipe: Recipe,
    data: Data,
    predictions: Array,
    target: Path,
    force: bool,
    precision: ExportPrecision = "float32",
) -> Verdict:
    """Compare `predictions` with the version that `target` would take over from: the one it replaces, else the highest.

    Args:
        recipe: what the network is.
        data: its data set.
        predictions: [N, outputs], the new network's on the test set.
        target: the folder that the new package goes to.
        force: publish whatever comes out.
        precision: what the new network's package computes in; in float16, errors that differ by a thousandth of the
            prediction, about two of its roundings, count as equal, too.

    Raises:
        GateError: the new network is significantly worse, or the version before it can't be measured.
    """
    before = predecessor(target)
    if before is None:
        return Verdict("", None, recipe.metric, forced=False)
    name = f"{recipe.name}/{before.name}"
    try:
        parse((before / MANIFEST).read_bytes())
        scores = per_sample(recipe, answers(recipe, data, before / MODEL, name), data.y_test)
    except (OSError, ValueError, TrainingError) as error:
        if force:
            return Verdict(name, None, recipe.metric, forced=True)
        raise GateError(
            f"{before} can't be measured, so nothing says that the new network is no worse: {one_line(error)}. "
            "Mend or remove it, or publish with --force."
        ) from error
    new = per_sample(recipe, predictions, data.y_test)
    same = SAME * (1 + np.abs(predictions).max(axis=1)) if precision == "float16" else SAME
    comparison = paired(new, np.where(np.abs(new - scores) < same, new, scores), seed=SEED)
    verdict = Verdict(name, comparison, recipe.metric, forced=force and comparison.significantly_worse)
    if comparison.significantly_worse and not force:
        raise GateError(
            f"not published: the new network is {verdict}, on the {len(data.y_test):,} test samples. "
            "Publish it with --force, or to another repository with --out."
        )
    return verdict


def predecessor(target: Path) -> Path | None:
    """The version that a package in the folder `target` would take over from: what it replaces, else the highest."""
    taken = versions(target.parent)
    highest = target.parent / str(max(taken)) if taken else None
    return target if target.exists() else highest
