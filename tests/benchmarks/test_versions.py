"""What one version costs against another: batches, and what is made of the rounds."""

import json

import numpy as np
import pytest

from benchmarks import versions
from benchmarks.payloads import manifest
from benchmarks.versions import BATCHES, batched, summarised, tables


def cell(batch: int, **us: float) -> dict:
    return {"model": "topic", "batch": batch, "us": {name[1:]: value for name, value in us.items()}, "prepare_us": 2.0}


def load(version: int, seconds: float) -> dict:
    sizes = {"model_bytes": version * 1_000_000, "package_bytes": version * 1_500_000}
    return {"model": "topic", "version": version, **sizes, "load_seconds": seconds, "load_mib": 10.0}


ROUNDS = [
    {"cells": [cell(1, v1=10.0, v2=30.0), cell(8, v1=1.0, v2=1.0)], "loads": [load(1, 0.1), load(2, 0.3)]},
    {"cells": [cell(1, v1=20.0, v2=40.0), cell(8, v1=1.0, v2=2.0)], "loads": [load(1, 0.2), load(2, 0.4)]},
    {"cells": [cell(1, v1=90.0, v2=90.0), cell(8, v1=1.0, v2=3.0)], "loads": [load(1, 0.9), load(2, 0.5)]},
]


def test_a_ratio_is_of_one_round_and_the_median_over_them():
    one, eight = summarised(ROUNDS)["rows"]
    assert (one["first"], one["version"], one["batch"]) == (1, 2, 1)
    assert (one["first_us"], one["us"]) == (20.0, 40.0)
    assert (one["times"], one["lowest"], one["highest"]) == (2.0, 1.0, 3.0)
    assert (eight["times"], eight["lowest"], eight["highest"]) == (2.0, 1.0, 3.0)


def test_every_version_is_held_against_the_lowest_as_a_number():
    rows = summarised([{"cells": [cell(1, v10=6.0, v2=3.0, v3=12.0)], "loads": []}])["rows"]
    assert [(row["first"], row["version"], row["times"]) for row in rows] == [(2, 3, 4.0), (2, 10, 2.0)]


def test_a_model_of_one_version_has_sizes_only():
    summary = summarised([{"cells": [cell(1, v1=6.0)], "loads": [load(1, 0.1)]}])
    assert summary["rows"] == []
    assert [one["version"] for one in summary["packages"]] == [1]


def test_the_tables_name_the_worst_of_all():
    summary = summarised(ROUNDS)
    settings = {"rounds": 3, "seconds": 1.0, "inputs": {"topic": "raw test texts"}, "pinned": True}
    # As it comes back from a file.
    cost, size = tables(json.loads(json.dumps({"settings": settings, "summary": summary})))
    assert [row[:5] for row in cost.rows] == [
        ["topic", "2 against 1", 1, 20.0, 40.0],
        ["topic", "2 against 1", 8, 1.0, 2.0],
    ]
    assert cost.rows[0][6] == "1.00 – 3.00"
    assert "the most is 2.00, topic in batches of 1." in cost.note
    assert [row[2:5] for row in size.rows] == [[1.0, 1.5, "0.200"], [2.0, 3.0, "0.400"]]


@pytest.mark.parametrize("size", BATCHES)
def test_batches_are_full_and_have_every_row(size):
    rows = list(range(100))
    batches = list(batched(rows, size))
    assert {len(batch) for batch in batches} == {size}
    assert [row for batch in batches for row in batch][:100] == rows
    assert len(batches) == -(-100 // size)


def test_texts_reach_the_graph_by_the_rules_of_the_package():
    feed = versions._feed("sentiment")(["A <br />GOOD film.", "Bad!"])
    assert feed["text"].tolist() == ["a  br   good film  bad "]
    assert feed["text_tokens"].tolist() == [8, 2]  # two spaces have an empty token between them


def test_rows_reach_the_graph_as_they_are():
    rows = np.array(manifest("house_price")["golden"]["inputs"]["features"], dtype=np.float32)
    feed = versions._feed("house_price")(list(rows))
    assert feed["features"].dtype == np.float32
    np.testing.assert_array_equal(feed["features"], rows)
