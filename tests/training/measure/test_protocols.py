"""Every protocol partitions the rows, K-fold holds each out once, groups stay whole, and nonsense is refused."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.measure.protocols import Scores, Split, evaluate, hold_out, iterated_k_fold, k_fold

SEEDS = st.none() | st.integers(0, 100)
GROUPS = st.lists(st.integers(0, 12), min_size=2, max_size=40).map(np.array)


def _partitions(split: Split, count: int) -> bool:
    return sorted([*split.train, *split.validation]) == list(range(count)) and len(split.train) > 0


def _whole(split: Split, groups: np.ndarray) -> bool:
    return not set(groups[split.train]) & set(groups[split.validation])


@settings(deadline=None)
@given(st.integers(2, 60), st.data(), SEEDS)
def test_hold_out_partitions(count: int, data: st.DataObject, seed: int | None) -> None:
    size = data.draw(st.integers(1, count - 1))
    (split,) = hold_out(count, size, seed)
    assert _partitions(split, count)
    assert len(split.validation) == size
    if seed is None:
        assert split.validation.tolist() == list(range(size))


@settings(deadline=None)
@given(GROUPS, st.data(), SEEDS)
def test_hold_out_keeps_groups_whole(groups: np.ndarray, data: st.DataObject, seed: int | None) -> None:
    size = data.draw(st.integers(1, len(groups) - 1))
    smallest = np.unique(groups, return_counts=True)[1].min()
    assume(smallest <= size)
    (split,) = hold_out(len(groups), size, seed, groups)
    assert _partitions(split, len(groups))
    assert _whole(split, groups)
    assert 0 < len(split.validation) <= size


def test_groups_of_one_change_nothing() -> None:
    (split,) = hold_out(10, 4, groups=np.arange(10)[::-1])
    assert split.validation.tolist() == [0, 1, 2, 3]


def test_hold_out_takes_copies_along() -> None:
    groups = np.array([7, 5, 5, 3, 7, 1])
    (split,) = hold_out(6, 3, groups=groups)
    assert split.validation.tolist() == [0, 3, 4]  # 7 fits, 5 no longer does, 3 does


@settings(deadline=None)
@given(st.integers(2, 60), st.data(), SEEDS)
def test_k_fold_holds_each_row_out_once(count: int, data: st.DataObject, seed: int | None) -> None:
    k = data.draw(st.integers(2, min(count, 8)))
    splits = k_fold(count, k, seed)
    assert [split.name for split in splits] == [f"fold {number}/{k}" for number in range(1, k + 1)]
    assert all(_partitions(split, count) for split in splits)
    held_out = np.concatenate([split.validation for split in splits])
    assert sorted(held_out) == list(range(count))
    assert np.ptp([len(split.validation) for split in splits]) <= 1
    if seed is None:
        assert held_out.tolist() == list(range(count))


@settings(deadline=None)
@given(GROUPS, st.data(), SEEDS)
def test_k_fold_keeps_groups_whole(groups: np.ndarray, data: st.DataObject, seed: int | None) -> None:
    different = len(set(groups))
    assume(different > 1)
    k = data.draw(st.integers(2, min(different, 8)))
    splits = k_fold(len(groups), k, seed, groups)
    assert all(_partitions(split, len(groups)) and _whole(split, groups) for split in splits)
    assert sorted(np.concatenate([split.validation for split in splits])) == list(range(len(groups)))


def test_iterations_shuffle_anew_and_repeat_with_the_seed() -> None:
    splits = iterated_k_fold(20, 4, 3, seed=1)
    assert [split.name for split in splits[3:5]] == ["iteration 1/3, fold 4/4", "iteration 2/3, fold 1/4"]
    counts = np.bincount(np.concatenate([split.validation for split in splits]))
    assert counts.tolist() == [3] * 20
    first = {tuple(split.validation) for split in splits[::4]}
    assert len(first) == 3
    assert {tuple(split.validation) for split in iterated_k_fold(20, 4, 3, seed=1)[::4]} == first
    assert {tuple(split.validation) for split in iterated_k_fold(20, 4, 3, seed=2)[::4]} != first


def test_seed_changes_the_rows() -> None:
    assert hold_out(50, 10, 1)[0].validation.tolist() == hold_out(50, 10, 1)[0].validation.tolist()
    assert hold_out(50, 10, 1)[0].validation.tolist() != hold_out(50, 10, 2)[0].validation.tolist()


@pytest.mark.parametrize(("count", "size"), [(10, 0), (10, 10), (10, 11), (10, -1), (1, 1), (0, 0)])
def test_hold_out_of_nothing_or_everything(count: int, size: int) -> None:
    with pytest.raises(TrainingError, match=f"hold-out of {size} of {count} rows: expected 1 to"):
        hold_out(count, size)


def test_no_group_is_small_enough() -> None:
    with pytest.raises(TrainingError, match="the smallest group has 3"):
        hold_out(6, 2, groups=np.array([0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize(("count", "k"), [(10, 1), (10, 0), (3, 4), (1, 2)])
def test_folds_that_cannot_be(count: int, k: int) -> None:
    with pytest.raises(TrainingError, match=f"{k} folds of {count} rows: expected 2 to {max(count, 2)}"):
        k_fold(count, k)
    with pytest.raises(TrainingError, match=f"{k} folds"):
        iterated_k_fold(count, k, 1, 0)


def test_more_folds_than_groups() -> None:
    with pytest.raises(TrainingError, match="3 folds of 2 groups"):
        k_fold(6, 3, groups=np.array([0, 0, 0, 1, 1, 1]))


def test_groups_of_another_length() -> None:
    for make in (lambda: k_fold(4, 2, groups=np.zeros(3)), lambda: hold_out(4, 2, groups=np.zeros(3))):
        with pytest.raises(TrainingError, match=r"groups must be \[4\].*found \[3\]"):
            make()


def test_no_iterations() -> None:
    with pytest.raises(TrainingError, match="0 iterations"):
        iterated_k_fold(10, 2, 0, 0)


Y = np.array([1.0, 2.0, 3.0, 10.0])


def _evaluate(splits: list[Split], told: list[tuple[object, ...]]) -> Scores:
    """The mean of the training targets as a model, its mean error as its figure; a second figure for one fold only."""

    def score(predictions: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        some = {"first": 1.0} if 0 in rows else {}
        return {"mae": float(np.abs(predictions - Y[rows]).mean()), **some}

    return evaluate(
        splits,
        lambda train: lambda rows: np.full(len(rows), Y[train].mean()),
        score,
        lambda *what: told.append(what),
    )


def test_evaluate_fits_each_split_on_its_own_rows() -> None:
    told: list[tuple[object, ...]] = []
    scores = _evaluate(k_fold(4, 2), told)
    # 6.5 for 1 and 2; 1.5 for 3 and 10.
    assert scores.splits == {"fold 1/2": {"mae": 5.0, "first": 1.0}, "fold 2/2": {"mae": 5.0}}
    assert (scores.mean, scores.sd) == ({"mae": 5.0}, {"mae": 0.0})
    assert told == [("fold 1/2", 1, 2, {"mae": 5.0, "first": 1.0}), ("fold 2/2", 2, 2, {"mae": 5.0})]


def test_spread_over_splits() -> None:
    scores = _evaluate(k_fold(4, 4), [])
    errors = np.array([4, 8 / 3, 4 / 3, 8])
    assert scores.mean == {"mae": pytest.approx(errors.mean())}
    assert scores.sd == {"mae": pytest.approx(errors.std(ddof=1))}


def test_one_split_has_no_spread() -> None:
    scores = _evaluate(hold_out(4, 1), [])
    assert scores.mean == {"mae": 4.0, "first": 1.0}
    assert scores.sd == {}


def test_splits_need_names_of_their_own() -> None:
    for splits in ([], k_fold(4, 2) + k_fold(4, 2)):
        with pytest.raises(TrainingError, match="splits of different names"):
            _evaluate(splits, [])
