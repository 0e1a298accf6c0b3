import pytest

from training.report.curves import FACTOR, curves, smooth
from training.runs import Epoch


def epochs(stage: str, values: list[float], name: str = "loss") -> list[Epoch]:
    return [Epoch(stage, done, len(values), {name: value}) for done, value in enumerate(values, start=1)]


def test_a_held_out_stage_has_two_lines_and_the_final_one_of_its_own() -> None:
    validation = [Epoch("validation", done, 2, {"loss": 1 / done, "val_loss": float(done)}) for done in (1, 2)]
    found = curves([*validation, *epochs("final", [0.9, 0.4])], "loss")
    assert found is not None
    assert [(line.kind, line.role, line.values) for line in found.lines] == [
        ("training", "only", (1.0, 0.5)),
        ("validation", "only", (1.0, 2.0)),
        ("final", "only", (0.9, 0.4)),
    ]
    assert (found.folds, found.is_smoothed, found.best) == (0, False, 1)


def test_folds_have_a_mean_over_the_epochs_that_all_reached() -> None:
    found = curves([*epochs("fold 1/2", [4, 2, 1], "val_loss"), *epochs("fold 2/2", [6, 0], "val_loss")], "loss")
    assert found is not None
    assert [(line.role, line.values) for line in found.lines] == [
        ("part", (4, 2, 1)),
        ("part", (6, 0)),
        ("mean", (5, 1)),
    ]
    assert (found.folds, found.best) == (2, 2)


@pytest.mark.parametrize(("count", "first"), [(50, 1), (51, 11)])
def test_long_folds_lose_their_first_epochs_and_are_smoothed(count: int, first: int) -> None:
    values = [float(10 * (number % 2)) for number in range(count)]
    found = curves(epochs("iteration 1/3, fold 1/1", values, "val_mae"), "mae")
    assert found is not None
    assert found.is_smoothed == (first > 1)
    for line in found.lines:
        assert (line.epochs[0], line.epochs[-1]) == (first, count)
        assert line.values == (smooth(values[first - 1 :]) if first > 1 else tuple(values))


def test_smoothing_is_an_exponential_moving_average() -> None:
    assert smooth([1, 0, 0]) == pytest.approx((1, FACTOR, FACTOR**2))


def test_the_best_epoch_of_a_share_is_the_highest() -> None:
    found = curves(epochs("validation", [0.5, 0.9, 0.7], "val_accuracy"), "accuracy")
    assert found is not None
    assert found.best == 2


def test_a_figure_that_no_epoch_has_has_no_curves() -> None:
    assert curves(epochs("final", [1, 2]), "accuracy") is None
