import json
import math
import platform
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.__main__ import BENCHMARKS
from benchmarks.machine import describe
from benchmarks.scrape import batching, parse, provider
from benchmarks.stats import median, overlapping, percentile, ratio
from benchmarks.tables import Table, text


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(100, 0, -1), 100, 100),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([3.0, 1.0, 2.0], 99, 3.0),
        ([7.0], 1, 7.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values, percent, expected):
    assert percentile(values, percent) == expected


def test_statistics_of_nothing_are_not_a_number():
    assert math.isnan(percentile([], 50))
    assert math.isnan(median([]))
    assert math.isnan(ratio(1.0, 0.0))


def test_overlapping_keeps_the_spans_that_meet_another():
    spans = [(9.0, 10.0), (0.0, 1.0), (1.5, 2.5), (2.9, 3.2), (3.5, 3.9), (1.0, 9.0)]
    assert overlapping(spans, [(2.0, 3.0), (4.0, 5.0)]) == [(1.0, 9.0), (1.5, 2.5), (2.9, 3.2)]
    assert overlapping(spans, []) == []


def test_a_table_is_markdown():
    table = Table("Title", ("what", "how often", "share"), [["a|b", 12345, 0.5], ["c", None, math.nan]], "A note.")
    assert table.markdown().splitlines() == [
        "### Title",
        "",
        "| what | how often | share |",
        "| --- | --: | --: |",
        r"| a\|b | 12,345 | 0.50 |",
        "| c | – | – |",
        "",
        "A note.",
    ]
    with pytest.raises(ValueError, match="Title: 1 cells under 2 columns"):
        Table("Title", ("a", "b"), [["c"]])


@pytest.mark.parametrize(("cell", "shown"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0, "0"), ("x", "x")])
def test_numbers_have_as_many_digits_as_they_deserve(cell, shown):
    assert text(cell) == shown


BEFORE = """\
# TYPE triptych_batch_rows histogram
triptych_batch_rows_bucket{le="+Inf",model="sentiment",version="1"} 10
triptych_batch_rows_sum{model="sentiment",version="1"} 10
triptych_batch_rows_count{model="sentiment",version="1"} 10
# TYPE triptych_batches_total counter
triptych_batches_total{model="sentiment",version="1",reason="idle"} 10
triptych_batches_total{model="topic",version="1",reason="idle"} 3
# TYPE triptych_model_info gauge
triptych_model_info{model="topic",version="1",provider="CPUExecutionProvider",task="t"} 1
"""


def test_batching_is_the_difference_of_two_scrapes():
    after = (
        BEFORE.replace('_sum{model="sentiment",version="1"} 10', '_sum{model="sentiment",version="1"} 22')
        .replace('_count{model="sentiment",version="1"} 10', '_count{model="sentiment",version="1"} 14')
        .replace('reason="idle"} 10', 'reason="idle"} 13\ntriptych_batches_total{model="sentiment",reason="full"} 1')
        .replace('reason="idle"} 3', 'reason="idle"} 300')
    )
    found = batching(parse(BEFORE), parse(after), "sentiment")
    assert found.batches == 4
    assert found.mean_rows == 3.0
    assert found.reasons == {"idle": 3, "full": 1}
    assert math.isnan(found.mean_queue_seconds)
    assert provider(parse(BEFORE)) == "CPUExecutionProvider"


def test_a_record_goes_to_a_file_and_back(tmp_path):
    one = results.record("startup", {"rounds": [{"a": {"other_cores": 1 / 3}}], "summary": {"x": math.nan}})
    results.save(one, tmp_path)
    found = results.load("startup", tmp_path)
    assert found is not None
    assert found["summary"] == {"x": None}
    assert found["rounds"] == [{"a": {"other_cores": 0.333333}}]
    assert results.load("load", tmp_path) is None


def test_the_machine_is_described_without_names_and_paths():
    described = json.dumps(describe())
    assert platform.node() not in described
    assert str(Path.cwd()) not in described
    assert str(Path.home()) not in described


def test_a_page_keeps_what_is_written_by_hand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\n{results.BEGIN}\nold\n{results.END}\n\nMine, too.\n")
    one = results.record("load", {"rounds": [{"other_cores": 0.25}]})
    for _ in range(2):
        results.write_page([(one, [Table("T", ("a",), [["b"]])])], page)
        text = page.read_text()
    assert text.startswith("# Mine\n\n<!--")
    assert text.endswith(f"{results.END}\n\nMine, too.\n")
    assert "## Load\n\n### T\n\n| a |" in text
    assert "Other processes kept 0.25 cores busy" in text
    assert "old" not in text
    page.write_text("# No marks\n")
    with pytest.raises(ValueError, match=r"page\.md lacks"):
        results.write_page([], page)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_tables_of_the_last_results_can_be_made(name):
    one = results.load(name)
    if one is None:
        pytest.skip(f"{name} has no results yet")
    page = getattr(BENCHMARKS[name], "PAGE", results.PAGE).read_text(encoding="utf-8")
    for table in BENCHMARKS[name].tables(one):
        assert table.rows
        assert table.markdown(heading=False) in page
