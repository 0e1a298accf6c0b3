"""A difference counts where it would be seen again on other samples, whichever model comes first."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.measure import bootstrap
from training.measure.bootstrap import Comparison, mean_sd, paired

SCORES = st.lists(st.tuples(*[st.floats(-100, 100)] * 2), min_size=2, max_size=40)
HITS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 2), min_size=2, max_size=40)


@settings(deadline=None)
@given(SCORES)
def test_a_model_is_no_better_than_itself(pairs: list[tuple[float, float]]) -> None:
    scores = np.array(pairs)[:, 0]
    found = paired(scores, scores, seed=0, resamples=50)
    assert found == Comparison(0, 0, 0, 0, 0, len(scores), 50)
    assert not found.significantly_better
    assert not found.significantly_worse


@settings(deadline=None)
@given(st.one_of(SCORES, HITS), st.integers(0, 5))
def test_exchanging_models_turns_the_signs(pairs: list[tuple[float, float]], seed: int) -> None:
    a, b = np.array(pairs).T
    there, back = paired(a, b, seed, resamples=60), paired(b, a, seed, resamples=60)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)
    assert (back.p_worse, back.p_better) == (there.p_better, there.p_worse)
    assert back.significantly_worse == there.significantly_better
    assert back.significantly_better == there.significantly_worse


@settings(deadline=None)
@given(st.one_of(SCORES, HITS))
def test_bounds(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    found = paired(a, b, seed=1, resamples=60)
    assert (a - b).min() - 1e-9 <= found.low <= found.high <= (a - b).max() + 1e-9
    assert 0 <= found.p_better + found.p_worse <= 1
    assert not (found.significantly_better and found.significantly_worse)
    assert found == paired(a, b, seed=1, resamples=60)


def _hits(only_a: int, only_b: int, both: int) -> tuple[np.ndarray, np.ndarray]:
    """Right guesses of two models: so many of one only, of the other only, of both."""
    a = np.repeat([1.0, 0.0, 1.0], [only_a, only_b, both])
    return a, np.repeat([0.0, 1.0, 1.0], [only_a, only_b, both])


def test_interval_agrees_with_theory() -> None:
    a, b = _hits(300, 200, 9_500)
    found = paired(a, b, seed=0)
    # Variance of a difference of -1, 0 or 1, of which 2 % are -1 and 3 % are 1.
    error = ((0.05 - 0.01**2) / 10_000) ** 0.5
    assert found.difference == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.01 - 1.96 * error, 0.01 + 1.96 * error), abs=2e-4)
    assert found.significantly_better
    assert found.p_better > 0.999


def test_a_small_difference_is_not_significant() -> None:
    found = paired(*_hits(20, 26, 954), seed=0)
    assert found.difference == pytest.approx(-0.006)
    assert not found.significantly_worse
    assert found.low < 0 < found.high
    assert 0.7 < found.p_worse < 0.9
    assert paired(*_hits(20, 60, 920), seed=0).significantly_worse


def test_counts_and_samples_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _hits(60, 40, 900)
    counted = paired(a, b, seed=0)
    monkeypatch.setattr(bootstrap, "DISTINCT", 0)
    drawn = paired(a, b, seed=0)
    assert drawn != counted
    assert (drawn.low, drawn.high, drawn.p_better) == pytest.approx(
        (counted.low, counted.high, counted.p_better), abs=2e-3
    )


def test_chunks_draw_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    whole = paired(a, b, seed=0, resamples=1_001)
    monkeypatch.setattr(bootstrap, "CHUNK", 70)
    # Nothing is left over from an empty array, and the generator goes on where it was.
    assert paired(a, b, seed=0, resamples=1_001) == whole


def test_a_large_test_set_takes_no_time() -> None:
    random = np.random.default_rng(0)
    a, b = (random.random((2, 25_000)) < 0.88).astype(float)
    started = time.process_time()
    paired(a, b, seed=0)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("a", "b", "resamples", "message"),
    [
        ([1, 0], [1], 10, r"\[2\] and \[1\] can't be paired"),
        ([1], [0], 10, "N at least 2"),
        ([1, np.nan], [1, 0], 10, "must be numbers"),
        ([1, 0], [1, 1], 0, "at least 1 resample: found 0"),
    ],
)
def test_what_cannot_be_compared(a: list[float], b: list[float], resamples: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        paired(np.array(a), np.array(b), 0, resamples)


def test_mean_and_deviation() -> None:
    assert mean_sd([1, 2, 3, 6]) == pytest.approx((3, (14 / 3) ** 0.5))
    assert mean_sd([2.5]) == (2.5, None)
    with pytest.raises(TrainingError, match="found none"):
        mean_sd([])
