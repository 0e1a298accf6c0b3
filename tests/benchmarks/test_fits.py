"""What a fit and an epoch cost: what is made of the rounds, and which shipped version came out again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.epochs import memory
from benchmarks.fits import ALL, shipped, summarised, tables
from benchmarks.payloads import manifest


def fit(number: int, sha256: str, again: list[int], seconds: float, peak: float) -> dict:
    took = {"wall_seconds": seconds, "cpu_seconds": 2 * seconds, "package_seconds": 2.0, "training_seconds": 1.0}
    took |= {"peak_gib": peak, "stated_gib": peak}
    models = {"topic": {**took, "sha256": sha256, "shipped": again}, ALL: took}
    return {"round": number, "recipe": "book", "models": models, "other_cores": 0.0}


def epochs(number: int, way: str, encode: float, seconds: list[float], peak: float) -> dict:
    memory = {"before_mib": 100.0, "peak_mib": peak}
    return {"round": number, "way": way, "encode_seconds": encode, "epoch_seconds": seconds, **memory, "loss": 0.1}


EPOCHS = [
    epochs(1, "batches", 0.0, [9.0, 2.0, 2.0, 2.0, 50.0], 200.0),
    epochs(1, "dense", 3.0, [7.0, 1.0, 1.0, 1.0, 1.0], 800.0),
    epochs(2, "dense", 3.0, [7.0, 4.0, 4.0, 4.0, 4.0], 700.0),
    epochs(2, "batches", 0.0, [9.0, 1.0, 1.0, 1.0, 1.0], 100.0),
]


def test_an_epoch_leaves_out_the_first_and_is_held_against_ours_of_the_same_round():
    ours, dense = summarised(EPOCHS)["epochs"]
    assert (ours["epoch_seconds"], ours["times"], ours["peak_times"]) == (1.5, 1.0, 1.0)
    assert (dense["epoch_seconds"], dense["lowest"], dense["times"], dense["highest"]) == (2.5, 0.5, 2.25, 4.0)
    assert (dense["peak_mib"], dense["peak_times"]) == (800.0, 5.5)


def test_the_whole_is_the_encoding_and_the_epochs_of_the_book():
    ours, dense = summarised(EPOCHS)["epochs"]
    assert (ours["whole_seconds"], dense["whole_seconds"]) == (13.5, 17.5)
    assert dense["whole_times"] == pytest.approx((13 / 15 + 22 / 12) / 2)


def test_times_are_medians_and_peaks_the_highest():
    topic, whole = summarised([fit(1, "a", [1], 10.0, 1.2), fit(2, "a", [1], 20.0, 1.1), *EPOCHS])["models"]
    assert (topic["model"], topic["wall_seconds"], topic["cpu_seconds"], topic["peak_gib"]) == ("topic", 15, 30, 1.2)
    assert whole["model"] == ALL


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (("a", [1]), ("a", [1]), "version 1"),
        (("b", []), ("b", []), "no shipped version"),
        (("a", [1]), ("b", []), "version 1; not the same each time"),
    ],
)
def test_other_bytes_are_told_and_no_failure(first, second, shown):
    summary = summarised([fit(1, *first, 10.0, 1.0), fit(2, *second, 10.0, 1.25), *EPOCHS])
    settings = {"rounds": 2, "turns": 2, "epochs": 5, "libraries": {"keras": "3"}}
    fits, compared = tables(json.loads(json.dumps({"settings": settings, "summary": summary})))
    assert [row[:3] for row in fits.rows] == [["topic", "book", shown], [ALL, "book", "–"]]
    assert "the most is 1.25, topic, book." in fits.note
    assert len(compared.rows) == 2


def test_without_data_there_is_nothing_but_the_reason():
    [table] = tables({"settings": {"skipped": "no data"}, "summary": {}})
    assert table.rows == [["skipped: no data"]]


def test_a_graph_is_known_by_its_hash(tmp_path: Path):
    for number, sha256 in ((1, "a"), (2, "b"), (10, "a")):
        folder = tmp_path / "topic" / str(number)
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({"files": {"model.onnx": {"sha256": sha256}}}))
    assert shipped("topic", "a", tmp_path) == [1, 10]
    assert shipped("topic", "c", tmp_path) == []
    assert shipped("topic", manifest("topic", 1)["files"]["model.onnx"]["sha256"]) == [1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_memory_is_the_kernels_and_of_a_process_that_lives():
    assert 1 < memory("VmRSS") <= memory("VmHWM", os.getpid())
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    with pytest.raises(ProcessLookupError, match=f"process {over.pid} is over"):
        memory("VmHWM", over.pid)
