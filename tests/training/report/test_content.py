import dataclasses
import re

import numpy as np
import pytest

from tests.training.report.conftest import RECORD, binary, multiclass, regression
from training.report import wording
from training.report.content import content
from training.report.heatmap import MANY
from training.report.pictures import POINTS
from training.report.render import html, markdown


def test_classes_are_sorted_by_their_samples() -> None:
    record, predicted = multiclass(10)
    rows = content(record, predicted).classes
    supports = [int(row.support) for row in rows]
    assert supports == sorted(supports, reverse=True)
    assert (rows[-1].label, rows[-1].support, rows[-1].recall) == ("class-9", "0", wording.NONE)


def test_the_time_per_epoch_of_each_stage() -> None:
    made = content(*binary())
    assert [(pace.stage, pace.samples, pace.first, pace.others, pace.rate) for pace in made.paces] == [
        (stage, "5,000", "2 s", "833 ms", "6,000") for stage in ("validation", "final")
    ]
    for page in (html(made), markdown(made)):
        assert "On cuda:0 (NVIDIA H200, compute capability 9.0)" in page
        assert page.count("833 ms") == 2
    untimed = dataclasses.replace(RECORD, epochs=[dataclasses.replace(each, samples=0) for each in RECORD.epochs])
    assert "Time per epoch" not in markdown(content(untimed, None))


def test_the_worst_confusions_come_first() -> None:
    record = dataclasses.replace(RECORD, task="multiclass-classification", labels=["a", "b", "c"])
    targets = np.array([0] * 4 + [1] * 5 + [2] * 2)
    guesses = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0])
    found = content(record, (np.eye(3, dtype=np.float32)[guesses], targets)).confusions
    assert [(each.true, each.guessed, each.count, each.share) for each in found] == [
        ("b", "c", "3", "60.0\xa0%"),
        ("a", "b", "2", "50.0\xa0%"),
        ("c", "a", "1", "50.0\xa0%"),
    ]


@pytest.mark.parametrize(("classes", "is_wide"), [(MANY, False), (MANY + 1, True)])
def test_a_matrix_of_many_classes_is_wide_and_has_no_numbers(classes: int, is_wide: bool) -> None:
    record, predicted = multiclass(classes)
    picture = content(record, predicted).pictures[-1]
    assert picture.is_wide == is_wide
    assert bool(re.search(r">\d+</text>", picture.svg)) is not is_wide


def test_figures_that_the_record_lacks_come_from_its_predictions() -> None:
    record, predicted = binary()
    titles = [row.title for row in content(dataclasses.replace(record, test={}), predicted).comparison.rows]
    assert {"Accuracy", "F1, macro", "ROC AUC", "ECE"} <= set(titles)
    stated = content(dataclasses.replace(record, test={"accuracy": 0.125}), predicted)
    assert stated.headline.value == "12.50\xa0%"


def test_a_house_price_has_its_unit_and_its_bands_and_another_regression_none() -> None:
    house, other = (content(*regression(model)) for model in ("house_price", "rents"))
    assert house.headline.value == "2.500\xa0k$"
    assert other.headline.value == "2.500"
    assert "≥ 35" in house.outcome[1].svg
    assert "True price (k$)" in house.outcome[0].svg
    assert "k$" not in "".join(picture.svg for picture in other.pictures)


def test_a_scatter_plot_of_very_many_samples_shows_some_of_them_and_says_so() -> None:
    record, _ = regression("rents")
    targets = np.linspace(0, 1, POINTS + 500)
    picture = content(record, (targets[:, None] + 0.1, targets)).outcome[0]
    assert f"{POINTS:,} of {POINTS + 500:,} samples are shown" in picture.caption
    assert picture.svg.count("<use ") < POINTS + 100


@pytest.mark.parametrize("rows", [1, 4])
def test_predictions_that_are_all_the_same_are_drawn(rows: int) -> None:
    record, _ = regression("rents")
    made = content(record, (np.full((rows, 1), 3.3), np.full(rows, 3.1)))
    assert len(made.outcome) == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 15, "< 15"), (15, 20, "15–20"), (35, float("inf"), "≥ 35"), (5.128, 9.5, "5.128–9.5")],
)
def test_bands_in_words(low: float, high: float, expected: str) -> None:
    assert wording.band(low, high) == expected


def test_names_of_files_hold_nothing_but_letters_digits_and_hyphens() -> None:
    assert wording.slug("../Top_3 (é)/x") == "top-3-x"


def test_a_label_with_dollar_signs_is_no_formula() -> None:
    record, predicted = binary()
    made = content(dataclasses.replace(record, labels=["$\\frac{$", "日本 & co"]), predicted)
    assert {"$\\frac{$", "日本 &amp; co"} <= set(re.findall(r">([^<]+)</text>", made.pictures[-1].svg))
