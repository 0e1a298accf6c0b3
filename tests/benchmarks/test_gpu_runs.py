"""Runs of graphs in process for the benchmark of GPUs, and other ways to run them, on the CPU."""

import statistics

import numpy as np
import pytest

from benchmarks.gpu import graphs, inprocess, variants
from benchmarks.gpu.inputs import MODELS, load
from serving.engine.session import Session


def on_cpu(model):
    return Session(model, inprocess.device("cpu"))


class PlayedDriver:
    """NVIDIA's, as far as locking pages goes; one function may refuse."""

    def __init__(self, refused):
        self.calls = []
        self._refused = refused

    def __getattr__(self, name):
        def call(*_):
            self.calls.append(name)
            return int(name == self._refused)

        return call


class TestInProcess:
    def test_runs_take_turns(self):
        calls = []
        runs = {name: lambda number, name=name: calls.append((name, number)) for name in "ab"}
        taken = inprocess.interleaved(runs, 0.0, least=3)
        warm = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
        assert calls == [*warm, ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
        assert [len(times) for times in taken.values()] == [3, 3]

    def test_batches_differ_while_there_are_rows(self):
        inputs = load(MODELS / "house_price/1")
        small, large = inprocess.batches(inputs.feed, 2), inprocess.batches(inputs.feed, 512)
        assert (len(small), len(large)) == (32, 1)
        assert large[0]["features"].shape == (512, 13)
        assert not np.array_equal(small[0]["features"], small[1]["features"], equal_nan=True)

    def test_all_cores_run_every_size(self):
        inputs = load(MODELS / "house_price/1")
        feeds = {rows: inprocess.batches(inputs.feed, rows) for rows in (1, 16)}
        with inprocess.all_cores(2) as every_core:
            found = every_core.measure(inputs.model, feeds, 0.02)
            assert list(found) == [1, 16]
            assert 0 < found[1] < found[16]
            assert set(every_core.measure(graphs.widened(inputs.model), {1: feeds[1]}, 0.02)) == {1}

    def test_a_process_that_fails_is_told_of(self):
        with inprocess.all_cores(1) as every_core, pytest.raises(RuntimeError, match="ended"):
            every_core.measure(b"no graph", {1: []}, 0.01)


class TestVariants:
    @pytest.mark.parametrize(
        ("name", "way", "tolerance"),
        [
            ("house_price/1", "bound buffers", 0.0),
            ("house_price/1", "half precision", 1e-2),
            ("sentiment/1", "cut at the words", 0.0),
            ("sentiment/1", "cut at the matrix", 0.0),
        ],
    )
    def test_a_way_computes_the_same(self, name, way, tolerance):
        inputs = load(MODELS / name)
        case = variants.Case(inputs, inputs.model, inprocess.device("cpu"), 16)
        plain = inprocess.plain(on_cpu(inputs.model), case.feeds())
        with variants.NAMES[way](case) as run:
            for number in (0, 1):
                for found, expected in zip(run(number), plain(number), strict=True):
                    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)

    def test_runs_between_fixed_places_compute_the_same(self):
        inputs = load(MODELS / "house_price/1")
        case = variants.Case(inputs, inputs.model, inprocess.device("cpu"), 3)
        plain = inprocess.plain(on_cpu(inputs.model), case.feeds())
        run, memory = variants.host_bound(case)
        for number in (0, 1):
            [found], [expected] = run(number), plain(number)
            np.testing.assert_array_equal(found, expected)
            assert np.shares_memory(found, memory)

    @pytest.mark.parametrize("refused", ["", "cuMemHostRegister_v2", "cuCtxPushCurrent_v2"])
    def test_pages_are_locked_for_as_long_as_they_are_used_and_all_is_given_back(self, refused):
        driver, memory = PlayedDriver(refused), np.empty(4096, np.uint8)
        if refused:
            with pytest.raises(variants.NotHereError, match="CUDA error 1"), variants.page_locked(driver, 0, memory):
                pytest.fail("it was refused")
        else:
            with variants.page_locked(driver, 0, memory):
                assert driver.calls[-1] == "cuMemHostRegister_v2"
            assert driver.calls[-3:] == ["cuMemHostUnregister", "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]
        assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2"
        assert ("cuCtxPopCurrent_v2" in driver.calls) == (refused != "cuCtxPushCurrent_v2")

    @pytest.mark.parametrize("way", ["CUDA graph", "TF32", "page-locked memory"])
    def test_what_only_gpus_have_is_skipped_with_the_reason(self, way):
        inputs = load(MODELS / "house_price/1")
        outcome = variants.measure(way, inputs.model, inputs, inprocess.device("cpu"), 4, 0.01)
        assert outcome.seconds is None
        assert "GPUs" in outcome.skipped

    def test_a_way_that_fails_says_so_and_harms_no_other(self):
        inputs = load(MODELS / "house_price/1")
        outcome = variants.measure("bound buffers", b"no graph", inputs, inprocess.device("cpu"), 4, 0.01)
        assert outcome.skipped.startswith("failed: ")

    def test_two_threads_beside_one(self):
        inputs = load(MODELS / "house_price/1")
        outcome = variants.measure(variants.TWO_THREADS, inputs.model, inputs, inprocess.device("cpu"), 64, 0.05)
        assert outcome.skipped == ""
        assert 0.3 < outcome.seconds / outcome.plain_seconds < 5


def test_a_median_is_of_runs_of_so_many_rows():
    inputs = load(MODELS / "house_price/1")
    rows = []

    def feed_of(count, first):
        rows.append(count)
        return inputs.feed(count, first)

    taken = [inprocess.measure(inputs.model, feed_of, inprocess.device("cpu"), count, 0.02) for count in (1, 4096)]
    assert set(rows) == {1, 4096}
    assert 0 < taken[0] < taken[1] < 1
    assert statistics.median(taken) > 0
