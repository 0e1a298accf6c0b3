import dataclasses

from tests.training.report.conftest import RECORD
from training.report.comparison import Comparison, compare, headline


def best(table: Comparison) -> dict[str, list[str]]:
    """The columns marked best, by row."""
    return {
        row.title: [column for column, cell in zip(table.columns, row.cells, strict=True) if cell.is_best]
        for row in table.rows
    }


def test_the_best_is_the_highest_or_the_lowest_as_the_figure_asks() -> None:
    record = dataclasses.replace(
        RECORD, baselines={"majority": {"accuracy": 0.5, "ece": 0.01}, "linear": {"accuracy": 0.9, "ece": 0.02}}
    )
    table = compare(record, {"accuracy": 0.8, "ece": 0.03}, "")
    assert table.columns == ("this run", "book", "majority", "linear", "this run, validation")
    assert best(table) == {"Accuracy": ["linear"], "ECE": ["majority"]}


def test_equals_are_both_best_and_validation_never_is() -> None:
    record = dataclasses.replace(
        RECORD, book=0.8, baselines={"linear": {"accuracy": 0.8}}, validation={"accuracy": 0.99}
    )
    assert best(compare(record, {"accuracy": 0.8}, "")) == {"Accuracy": ["this run", "book", "linear"]}


def test_nothing_is_best_where_no_way_is_better_or_nothing_is_beside_it() -> None:
    record = dataclasses.replace(RECORD, book=None, validation={}, baselines={"mean": {"bias": 0.1, "odd_one": 2.0}})
    table = compare(record, {"bias": -0.2, "odd_one": 1.0, "r2": 0.5, "mse": float("nan")}, "k$")
    assert best(table) == {"MSE": [], "R²": [], "Bias": [], "odd one": []}
    assert not table.has_best
    assert [cell.text for cell in table.rows[2].cells] == ["−0.200\xa0k$", "0.100\xa0k$"]


def test_an_experiment_is_compared_with_nothing_measured_on_other_samples() -> None:
    table = compare(RECORD, {}, "")
    assert table.columns[:2] == ("this run, validation", "book, test")
    assert not table.has_best
    assert headline(RECORD, {}, "").beside[0] == ("book, test", "88.50\xa0%")


def test_the_headline_is_the_metric_beside_book_and_baselines() -> None:
    found = headline(RECORD, {"accuracy": 0.8125}, "")
    assert (found.title, found.value) == ("Accuracy, test", "81.25\xa0%")
    assert found.beside == (("book", "88.50\xa0%"), ("majority", "50.00\xa0%"), ("linear", "87.50\xa0%"))
