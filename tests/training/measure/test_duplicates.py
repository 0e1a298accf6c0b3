"""Copies are found within and across splits, and only copies; the real data holds as many as it is known to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import BOSTON_HOUSING, REUTERS, Data, Dataset, Sequences, Table, load
from training.errors import TrainingError
from training.measure.duplicates import find

TRAIN = Sequences.from_ranks([[1, 2], [3], [1, 2], [1, 2, 2], [2, 1]])
TEST = Sequences.from_ranks([[3], [9], [1, 2], [9], []])


def test_texts_by_hand() -> None:
    found = find(TRAIN, TEST, y_train=np.array([0, 1, 1, 0, 0]), y_test=np.array([1, 0, 0, 0, 0]))
    assert found.train_groups.tolist() == [0, 1, 0, 2, 3]
    assert found.test_groups.tolist() == [1, 4, 0, 4, 5]
    assert (found.train_repeats, found.test_repeats) == (1, 1)
    assert found.shared.tolist() == [0, 2]
    assert found.train_disagreeing == 2
    # Test row 2 has a copy labelled as it is and one labelled otherwise.
    assert found.disagreeing is not None
    assert found.disagreeing.tolist() == [2]
    other = find(TRAIN, TEST, y_train=np.array([0, 1, 1, 0, 0]), y_test=np.array([0, 0, 1, 0, 0]))
    assert other.disagreeing is not None
    assert other.disagreeing.tolist() == [0, 2]
    assert found.describe() == (
        "1 of 5 training samples repeat an earlier one (2 have a copy labelled otherwise); "
        "1 of 5 test samples repeat an earlier one; 2 test samples (40.0%) are also in training, "
        "1 of them labelled otherwise there"
    )


def test_without_labels_nothing_is_said_of_them() -> None:
    found = find(TRAIN, TEST)
    assert (found.disagreeing, found.train_disagreeing) == (None, None)
    assert "labelled" not in found.describe()


def test_one_set() -> None:
    found = find(TRAIN)
    assert len(found.test_groups) == len(found.shared) == 0
    assert found.describe() == "1 of 5 training samples repeat an earlier one"


def test_numbers_and_images() -> None:
    numbers = find(Table(np.array([[0.0, 1], [1, 0]], np.float32)), Table(np.array([[-0.0, 1], [0, 0]], np.float32)))
    assert numbers.shared.tolist() == [0]
    grey = np.zeros((3, 2, 2), np.uint8)
    grey[1, 0, 1] = 1
    assert find(Table(grey)).train_groups.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (TRAIN, Table(np.zeros((2, 3), np.float32)), r"are texts, test samples float32 \[3\]"),
        (Table(np.zeros((2, 3))), Table(np.zeros((2, 4))), r"float64 \[3\], test samples float64 \[4\]"),
        (Table(np.zeros((0, 3))), None, "found none"),
    ],
)
def test_sets_that_cannot_be_compared(train: Table, test: Table | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        find(train, test)


def test_labels_of_another_length() -> None:
    with pytest.raises(TrainingError, match="5 training samples have 4 labels"):
        find(TRAIN, y_train=np.zeros(4))


TEXTS = st.lists(st.lists(st.integers(1, 2), max_size=2), min_size=1, max_size=15)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_same_group_means_same_text(train: list[list[int]], test: list[list[int]]) -> None:
    found = find(Sequences.from_ranks(train), Sequences.from_ranks(test))
    groups = [*found.train_groups, *found.test_groups]
    for text, group in zip([*train, *test], groups, strict=True):
        assert [other == group for other in groups] == [other == text for other in [*train, *test]]
    assert found.shared.tolist() == [row for row, text in enumerate(test) if text in train]
    assert found.train_repeats == sum(text in train[:row] for row, text in enumerate(train))
    assert found.test_repeats == sum(text in test[:row] for row, text in enumerate(test))


def _counts(data: Data) -> tuple[int, int]:
    """Test samples that are also in training, and those of them that are labelled otherwise there."""
    found = find(data.x_train, data.x_test, y_train=data.y_train, y_test=data.y_test)
    assert found.disagreeing is not None
    return len(found.shared), len(found.disagreeing)


def test_real_reviews(real_reviews: Data) -> None:
    assert _counts(real_reviews) == (123, 0)


@pytest.mark.parametrize(("dataset", "counts"), [(REUTERS, (237, 145)), (BOSTON_HOUSING, (0, 0))])
def test_real_data(real_data: Path, dataset: Dataset, counts: tuple[int, int]) -> None:
    assert _counts(load(dataset, real_data)) == counts
