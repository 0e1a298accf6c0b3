"""What a difference between two models is worth: the paired bootstrap over samples, mean and spread over seeds.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); Koehn,
Statistical Significance Tests for Machine Translation Evaluation, EMNLP 2004 (paired).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data import Array
from training.errors import TrainingError
from training.measure.outputs import Floats

RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 1_000_000
"""Samples drawn at a time: 12 MB."""
DISTINCT = 16
"""Up to so many distinct differences, their counts are resampled instead of the samples."""


@dataclass(frozen=True)
class Comparison:
    """How much better one model, a, is than another, b, on the same samples; above 0 is better."""

    difference: float
    """Mean score of a minus mean score of b."""
    low: float
    """Lower end of the two-sided 95 % interval of the difference."""
    high: float
    """Upper end of it."""
    p_worse: float
    """Share of resamples in which a is worse; a tie counts for neither."""
    p_better: float
    """Share of resamples in which a is better."""
    samples: int
    resamples: int

    @property
    def significantly_worse(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    @property
    def significantly_better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


def paired(per_sample_a: Array, per_sample_b: Array, seed: int, resamples: int = RESAMPLES) -> Comparison:
    """Compare two models by their scores on the same samples, more being better.

    The interval says what other test samples might have shown; what other seeds might have, it doesn't know.

    Args:
        per_sample_a: [N], such as `outputs.correct` or `outputs.closeness`.
        per_sample_b: [N], of the model that a is compared with.
        seed: of the resampling; exchanging a and b only turns the signs.
        resamples: how many.

    Raises:
        TrainingError: the scores don't go together, are fewer than 2 or not numbers; fewer than 1 resample.
    """
    a, b = np.asarray(per_sample_a, np.float64), np.asarray(per_sample_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise TrainingError(
            f"scores {list(a.shape)} and {list(b.shape)} can't be paired: expected [N] and [N], N at least 2"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise TrainingError("scores to be compared must be numbers: found NaN or infinities")
    if resamples < 1:
        raise TrainingError(f"a bootstrap needs at least 1 resample: found {resamples}")
    differences = a - b
    # Resampled with the first difference above 0, so that the draws are the same whichever model comes first.
    nonzero = differences[differences != 0]
    sign = -1.0 if len(nonzero) and nonzero[0] < 0 else 1.0
    means = _resampled_means(sign * differences, np.random.default_rng(seed), resamples)
    tail = (1 - CONFIDENCE) / 2
    ends = sorted(sign * float(end) for end in np.quantile(means, [tail, 1 - tail]))
    return Comparison(
        difference=float(differences.mean()),
        low=ends[0],
        high=ends[1],
        p_worse=float((sign * means < 0).mean()),
        p_better=float((sign * means > 0).mean()),
        samples=len(differences),
        resamples=resamples,
    )


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n - 1) of a figure over seeds or folds; one value alone has no deviation.

    Raises:
        TrainingError: there are no values.
    """
    if not len(values):
        raise TrainingError("a mean needs at least 1 value: found none")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _resampled_means(differences: Floats, random: np.random.Generator, resamples: int) -> Floats:
    """[resamples]: the mean of as many differences as there are, drawn with replacement."""
    count = len(differences)
    distinct, counts = np.unique(differences, return_counts=True)
    if len(distinct) <= DISTINCT:
        # How often each value is drawn is multinomial: the same distribution as drawing samples, without drawing them.
        drawn = random.multinomial(count, counts / count, resamples)
        means: Floats = drawn @ distinct / count
        return means
    means = np.empty(resamples)
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        means[start:stop] = differences[random.integers(0, count, (stop - start, count), np.int32)].mean(axis=1)
    return means
