"""Example rows arrive in the types of the inputs they are for, unchanged, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.package.manifest import InputSpec, OutputSpec, Task
from training.errors import DataError
from training.packaging.examples import read_examples, read_labels

SIZE, KIND = InputSpec("size", "FP32", (-1, 2)), InputSpec("kind", "UINT8", (-1,))
SIZES = np.array([[1.5, 0.1], [np.nan, -2]])


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "rows.npz", **arrays)
    return folder / "rows.npz"


def test_arrays_are_found_by_name_and_take_the_inputs_types(tmp_path: Path) -> None:
    found = read_examples(saved(tmp_path, Kind=np.array([0, 255]), size=SIZES), (SIZE, KIND))
    assert list(found) == ["size", "kind"]
    assert found["size"].dtype == np.float32
    np.testing.assert_array_equal(found["size"], SIZES.astype(np.float32))  # a float may be rounded, NaN may be absent
    assert found["kind"].dtype == np.uint8
    assert found["kind"].tolist() == [0, 255]


def test_whole_numbers_may_come_as_floats_and_the_other_way_round(tmp_path: Path) -> None:
    path = saved(tmp_path, size=np.array([[1, 2]]), kind=np.array([7.0]))
    found = read_examples(path, (SIZE, KIND))
    assert (found["size"].tolist(), found["kind"].tolist()) == ([[1.0, 2.0]], [7])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ([0, 256], r"kind holds int64 values that UINT8 does not: they go from 0 to 256"),
        ([0, -1], r"kind holds int64 values that UINT8 does not"),
        ([0, 0.5], r"kind holds float64 values that UINT8 does not"),
        ([0, np.nan], r"kind holds float64 values that UINT8 does not"),
        ([[0], [1]], r"kind has shape \[2, 1\]: expected kind UINT8 \[N\]"),
        (3, r"kind has shape \[\]: expected kind UINT8 \[N\]"),
        (["a", "b"], r"kind holds values of type <U1: expected kind UINT8 \[N\]"),
        ([0], r"expected the same number of rows for each input, at least one; found .*'kind': 1"),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path: Path, kind: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(saved(tmp_path, size=SIZES, kind=np.array(kind)), (SIZE, KIND))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinities_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="size holds infinities, or values too large for FP32"):
        read_examples(saved(tmp_path, size=np.array([[0, value]])), (SIZE,))


@pytest.mark.parametrize("arrays", [{}, {"size": SIZES}, {"size": SIZES, "kind": [1, 2], "more": [1, 2]}])
def test_other_names_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    expected = r"holds .*: expected an npz file with one array for each of size FP32 \[N, 2\], kind UINT8 \[N\]"
    with pytest.raises(DataError, match=expected):
        read_examples(saved(tmp_path, **arrays), (SIZE, KIND))


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        read_examples(saved(tmp_path, kind=np.empty(0, np.uint8)), (KIND,))


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    whole = saved(tmp_path, kind=np.arange(100)).read_bytes()
    path.unlink()
    for content in (None, b"no", b"", whole[:100], whole[: len(whole) // 2], whole.replace(bytes(8), b"damaged!")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=r"rows\.npz can't be read .*: expected an npz file"):
            read_examples(path, (KIND,))
    with path.open("wb") as file:
        np.save(file, np.zeros(3))  # one array, without a name
    with pytest.raises(DataError, match=r"can't be read .*expected an npz file"):
        read_examples(path, (KIND,))
    with pytest.raises(DataError, match=r"can't be read .*expected an npz file"):
        read_examples(saved(tmp_path, kind=np.array([{}, {}], dtype=object)), (KIND,))  # would have to be unpickled


ONE, THREE = OutputSpec("chance", "FP32", (-1, 1)), OutputSpec("kind", "FP32", (-1, 3))


def labels(folder: Path, text: str, task: Task, *outputs: OutputSpec) -> tuple[str, ...]:
    (folder / "labels.txt").write_text(text, "utf-8")
    return read_labels(folder / "labels.txt", task, outputs)


def test_a_label_on_each_line(tmp_path: Path) -> None:
    assert labels(tmp_path, "no\nyes\n", "binary-classification", ONE) == ("no", "yes")
    assert labels(tmp_path, "a\nb c\né", "multiclass-classification", ONE, THREE) == ("a", "b c", "é")


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("a\na\n", "binary-classification", "a different label in each line"),
        ("a\n\nb", "binary-classification", "no empty line"),
        ("a\nb\nc", "binary-classification", "holds 3 labels: expected 2"),
        ("a\nb", "multiclass-classification", "holds 2 labels: expected 1 or 3"),
        ("a\nb", "regression", "expected no labels for a regression"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, text: str, task: Task, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels(tmp_path, text, task, ONE, THREE)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.txt can't be read .* expected UTF-8 text"):
        read_labels(tmp_path / "labels.txt", "regression", (ONE,))
