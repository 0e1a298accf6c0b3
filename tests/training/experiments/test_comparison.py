"""The comparison shows what was recorded, in tables, pictures and pages, the same each time."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from training import runs
from training.experiments.comparison import figures, found, read
from training.experiments.findings import FINDINGS, Records
from training.experiments.history import Curve
from training.experiments.page import write_comparison, write_page
from training.experiments.picture import GAP, limits, picture, spread
from training.experiments.run import folder
from training.experiments.variants import VARIANTS

from .histories import made_up, valley


def records(model: str, *names: str) -> Records:
    """Made-up records of `names`, of all variants where there are none."""
    epochs = 30 if model == "house_price" else 20
    return {
        variant.name: made_up(model, variant.name, valley(4 + number, 0.1 * number, epochs))
        for number, variant in enumerate(VARIANTS[model])
        if variant.name in names or not names
    }


def text_of(svg: bytes) -> list[str]:
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


@pytest.mark.parametrize("model", VARIANTS)
def test_a_picture_names_every_curve_and_is_the_same_each_time(model: str) -> None:
    svg = picture(model, records(model))
    assert svg == picture(model, records(model))
    words = text_of(svg)
    groups = {variant.group for variant in VARIANTS[model] if variant.group}
    assert groups <= set(words)
    for variant in VARIANTS[model][1:]:
        # Once beside the loss, unless that is on a scale of its own, and once beside the metric.
        assert words.count(variant.name) == (1 if variant.name == "mse" else 2)
    # What goes on from where the book's own ends is not drawn over it.
    assert words.count("book") == 2 * len(groups - {"Epochs"})
    assert "Epoch" in words


def test_a_picture_of_the_books_own_alone() -> None:
    assert text_of(picture("topic", records("topic", "book"))).count("book") == 2


def test_labels_keep_their_distance_and_their_order() -> None:
    places = [0.5, 0.9, 0.52, 0.51, 0.1]
    moved = spread(places)
    order = sorted(range(5), key=lambda index: places[index])
    assert order == sorted(range(5), key=lambda index: moved[index])
    ordered = [moved[index] for index in order]
    assert all(second - first >= GAP - 1e-9 for first, second in pairwise(ordered))
    assert (moved[4], moved[1]) == (0.1, 0.9)
    assert sum(moved[index] for index in (0, 2, 3)) / 3 == pytest.approx(0.51)
    assert spread([0.0, 0.01]) == pytest.approx([0, GAP])
    assert spread([0.99, 1.0, 1.0]) == pytest.approx([1 - 2 * GAP, 1 - GAP, 1])


def test_a_leap_does_not_flatten_the_rest_but_ends_and_bests_stay_in() -> None:
    steady = Curve(np.arange(1, 41), np.linspace(0.5, 0.3, 40))
    leaping = Curve(np.arange(1, 41), np.array([9.0, *[0.4] * 18, 50.0, *[0.4] * 18, 0.2, 0.8]))
    low, high = limits([steady, leaping])
    assert 0.1 < low < 0.2
    assert 0.8 < high < 0.9


def test_the_table_has_every_variant_and_the_figures_of_those_that_were_run() -> None:
    table = figures("sentiment", records("sentiment", "book", "units-4"))
    assert [row[0] for row in table.rows] == [variant.name for variant in VARIANTS["sentiment"]]
    assert {len(row) for row in table.rows} == {len(table.headings)}
    cells = dict(zip(table.headings, table.rows[3], strict=True))
    assert (cells["experiment"], cells["weights"], cells["lowest loss"]) == ("units-4", "40,029", "0.300")
    assert cells["loss at the end"] == "0.390 (+30 %)"
    assert set(table.rows[1][2:]) == {"–"}


def test_houses_are_measured_with_features_hidden() -> None:
    table = figures("house_price", records("house_price", "book"))
    assert table.rows[0][-2] == "4.00 (2.00)"
    assert "20 % of the features hidden" in table.headings[-2]


@pytest.mark.parametrize("model", VARIANTS)
def test_findings_are_all_there(model: str) -> None:
    table = found(model, records(model, "book"))
    assert len(table.rows) == len(FINDINGS[model])
    assert {row[3] for row in table.rows} <= {"seen", "not seen", "not run"}


def test_records_of_other_recipes_are_not_compared(tmp_path: Path) -> None:
    for name, record in records("topic", "book", "l2").items():
        hyperparameters = record.hyperparameters | ({"l2": 0.5} if name == "l2" else {})
        changed = dataclasses.replace(record, hyperparameters=hyperparameters)
        runs.write(folder(tmp_path, "topic") / name, changed)
    assert read(tmp_path, "topic").keys() == {"book"}
    assert read(tmp_path, "sentiment") == {}


def test_pages_are_the_same_each_time_and_hold_pictures_and_tables(tmp_path: Path) -> None:
    every = {model: records(model) for model in VARIANTS}
    written = []
    for place in ("first", "second"):
        write_page(tmp_path / place, every)
        write_comparison(tmp_path / place / "runs", "topic", every["topic"])
        written.append({path.name: path.read_bytes() for path in (tmp_path / place).rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert written[0].keys() == {
        *(f"{model}.svg" for model in VARIANTS),
        "experiments.md",
        "comparison.md",
        "curves.svg",
    }
    page = written[0]["experiments.md"].decode()
    for model in VARIANTS:
        assert f"(experiments/{model}.svg)" in page
        assert (tmp_path / "first" / "experiments" / f"{model}.svg").is_file()
    assert "| units-512 | Does a far larger network overfit sooner? | " in page
    assert "These 32 experiments took 32 min in all" in page
    assert "the same code" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith(" |") for line in lines)


def test_a_page_tells_of_other_code(tmp_path: Path) -> None:
    every = records("topic", "book", "l2")
    other = dataclasses.replace(every["l2"], provenance=every["l2"].provenance | {"code": "sha256:1"})
    page = write_page(tmp_path, {"topic": {**every, "l2": other}}).read_text("utf-8")
    assert "2 states of the code" in page
