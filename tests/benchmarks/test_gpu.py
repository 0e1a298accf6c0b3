"""The benchmark of GPUs, on a machine that need not have one."""

import copy
import json
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import marks, results
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.gpu import __main__ as alone
from benchmarks.gpu import bench, estimate, graphs, inprocess, page, tables, variants
from benchmarks.gpu.crossover import at_best, crossover
from benchmarks.gpu.inputs import MODELS, load
from benchmarks.gpu.tables import NOT_MEASURED
from benchmarks.scaling.sizes import Assumptions
from serving.engine import device as devices
from serving.engine.session import Session

TEXTS = ("sentiment/1", "sentiment/2", "topic/1", "topic/2")

no_gpu = pytest.mark.skipif(devices.cuda_problem(0) is None, reason="there is a GPU here")


def on_cpu(model):
    return Session(model, inprocess.device("cpu"))


def outputs(session, feed):
    return session.run(list(session.outputs), {name: feed[name] for name in session.inputs})


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Of a quick run without a GPU."""
    folder = tmp_path_factory.mktemp("out")
    assert alone.main(["--quick", "--devices", "cpu", "--out", str(folder)]) == 0
    return json.loads((folder / "gpu.json").read_text())


def with_gpu(record):
    """The same as if there had been a GPU that is slow to begin with and then fast."""
    found = copy.deepcopy(record)
    found["settings"] |= {"gpu": "cuda:0", "no_gpu": "", "gpu_name": "NVIDIA Imaginary"}
    found["settings"]["servers"]["cuda:0"] = ["--device", "cuda:0"]
    for one in found["summary"]["inside"]:
        one["placed"][devices.CUDA] = 7
        one["seconds"]["gpu"] = {size: 100e-6 + int(size) * 1e-9 for size in one["seconds"]["cpu"]}
        one["seconds"]["cpu"] = {size: int(size) * 10e-6 for size in one["seconds"]["cpu"]}
    load_ = {**found["summary"]["through"][0], "server": "cuda:0", "gpu_utilization": 0.25, "gpu_memory_bytes": 2**30}
    found["summary"]["through"].append(load_)
    return found


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


class TestGraphs:
    @pytest.mark.parametrize("name", ["house_price/1", "sentiment/1", "topic/1"])
    def test_wider_layers_change_nothing_that_can_be_seen_from_outside(self, name):
        inputs = load(MODELS / name)
        shipped, wider = on_cpu(inputs.model), on_cpu(graphs.widened(inputs.model))
        assert (wider.inputs, wider.outputs) == (shipped.inputs, shipped.outputs)
        feed = inputs.feed(3)
        for before, after in zip(outputs(shipped, feed), outputs(wider, feed), strict=True):
            assert after.shape == before.shape
            assert np.isfinite(after).all()

    def test_hidden_layers_are_as_wide_as_was_asked_and_the_last_is_as_it_was(self):
        model = load(MODELS / "house_price/1").model
        weights = estimate.anatomy(graphs.widened(model, 8), load(MODELS / "house_price/1"))
        scaling = 2 * 13 + 13  # shift, factor, and the means of what is absent
        assert weights.weight_bytes == 4 * (scaling + 13 * 8 + 8 + 8 * 8 + 8 + 8 * 1 + 1)
        assert weights.flop_per_row == 2 * (13 * 8 + 8 * 8 + 8)
        assert graphs.widened(model, 8) == graphs.widened(model, 8)

    @pytest.mark.parametrize("name", ["house_price/2", "topic/2"])
    def test_a_graph_of_other_layers_is_refused(self, name):
        with pytest.raises(ValueError, match="dense layers"):
            graphs.widened(load(MODELS / name).model)

    @pytest.mark.parametrize("name", TEXTS)
    def test_two_sessions_give_what_one_gives(self, name):
        inputs = load(MODELS / name)
        feed = inputs.feed(5)
        whole = on_cpu(inputs.model)
        cuts = graphs.cuts(inputs.model)
        assert set(cuts) == ({"words", "matrix"} if name.endswith("/1") else {"words"})
        for tensor in cuts.values():
            halves = graphs.split(inputs.model, tensor)
            assert list(halves.outputs) == list(whole.outputs)
            front, network = on_cpu(halves.front), on_cpu(halves.network)
            assert not any(kind == "tensor(string)" for kind, _ in network.inputs.values())
            known = feed | dict(zip(front.outputs, outputs(front, feed), strict=True))
            known |= dict(zip(network.outputs, outputs(network, known), strict=True))
            for name_, expected in zip(whole.outputs, outputs(whole, feed), strict=True):
                np.testing.assert_array_equal(known[name_], expected)

    def test_what_is_no_text_has_no_cut_and_a_wrong_one_is_refused(self):
        house, text = (load(MODELS / name).model for name in ("house_price/1", "sentiment/1"))
        assert graphs.cuts(house) == {}
        with pytest.raises(ValueError, match="no node makes nothing"):
            graphs.split(house, "nothing")
        with pytest.raises(ValueError, match="still takes the text"):
            graphs.split(text, "stops")


class TestCrossover:
    def test_between_two_batches_it_lies_on_a_line_in_logarithms(self):
        # A GPU of 80 µs whatever comes, a CPU of 1 µs a row: they meet at 80 rows.
        found = crossover({rows: (rows * 1e-6, 80e-6) for rows in (1, 4, 16, 64, 256)})
        assert found.batch == 256
        assert found.rows == pytest.approx(80)
        assert found.gain == pytest.approx(3.2)
        assert str(found) == "80 rows"

    def test_never_and_always(self):
        never = crossover({1: (1.0, 2.0), 64: (1.0, 1.0)})
        assert (never.batch, never.rows, str(never)) == (None, None, "never")
        always = crossover({1: (2.0, 1.0), 64: (3.0, 1.0)})
        assert always.is_always
        assert str(always) == "always, from 1"
        assert math.isnan(crossover({}).gain)

    def test_rows_may_be_taken_in_smaller_batches(self):
        assert at_best({1: 1.0, 4: 2.0, 16: 16.0}) == {1: 1.0, 4: 2.0, 16: 8.0}
        assert at_best({1: 1.0, 4: 8.0}) == {1: 1.0, 4: 4.0}

    def test_it_must_stay_faster(self):
        assert crossover({1: (1.0, 2.0), 8: (2.0, 1.0), 64: (1.0, 2.0)}).batch is None
        assert crossover({1: (2.0, 1.0), 8: (1.0, 2.0), 64: (2.0, 1.0)}).batch == 64


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


class TestWithoutGpu:
    def test_what_measures_needs_nothing_of_what_presents(self):
        script = (
            "import sys\n"
            "for name in ('rich', 'psutil', 'matplotlib', 'tensorflow', 'sklearn', 'benchmarks.servers'):\n"
            "    sys.modules[name] = None\n"
            "from benchmarks.gpu import client, crossover, estimate, graphs, inprocess, inputs, through, variants\n"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=MODELS.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @no_gpu
    def test_a_gpu_that_was_asked_for_is_not_silently_left_out(self, capsys):
        assert benchmarks_main(["gpu", "--quick", "--devices", "cpu,cuda:0"]) == 1
        assert "device cuda:0 can't be had" in capsys.readouterr().out.replace("\n", " ")
        assert alone.main(["--devices", "cpu,cuda:0,cuda:1"]) == 1
        assert "one GPU is measured at a time" in capsys.readouterr().err

    def test_it_runs_only_by_name(self, capsys):
        with pytest.raises(SystemExit):
            benchmarks_main(["--help"])
        assert "gpu" in capsys.readouterr().out.partition("default: all but")[2].partition(")")[0]

    def test_a_quick_run_has_every_table_and_says_what_was_not_measured(self, record):
        assert record["settings"]["gpu"] is None
        found = {table.title: table for table in bench.tables(record)}
        assert "No GPU has been seen" in page.parts(record)["seen"]
        assert NOT_MEASURED in str(found["In process"].rows[-1])
        assert NOT_MEASURED in str(found["Through gRPC"].rows[-1])
        assert all(row[1] == NOT_MEASURED for row in found["Where a GPU overtakes the CPU"].rows)
        assert "rehearsal" in found["Ways to run a session"].note
        inside = {one["graph"]: one for one in record["summary"]["inside"]}
        assert set(inside) == {"house_price/1", "sentiment/1", "house_price/1, 512 units"}
        assert (
            inside["house_price/1, 512 units"]["seconds"]["cpu"]["256"]
            > inside["house_price/1"]["seconds"]["cpu"]["256"]
        )
        assert all(set(one["placed"]) == {devices.CPU} for one in inside.values())
        assert all(one["batch_rows"] > 1 and one["cpu_us"] > 0 for one in record["summary"]["through"])

    def test_where_there_was_one_its_columns_are_filled(self, record):
        found = {table.title: table for table in bench.tables(with_gpu(record))}
        assert NOT_MEASURED not in "".join(table.markdown() for table in found.values())
        rows = found["Where a GPU overtakes the CPU"].rows
        assert [row[1] for row in rows] == ["10 rows"] * len(rows)
        assert [row[1] for row in found["In process"].rows][2:4] == ["cuda:0", "cuda:0 ÷ one thread"]
        assert all(str(row[2]).startswith("7 of ") for row in found["What a GPU would have to do"].rows)
        made = page.parts(with_gpu(record))
        assert "cuda:0 (NVIDIA Imaginary)" in made["source"]
        assert "measured on one NVIDIA Imaginary" in made["seen"]
        [line] = [row for row in found["Through gRPC"].rows if row[1] == "cuda:0"]
        assert line[-2:] == ["25%", 1024.0]


class TestPage:
    def test_the_page_is_what_this_code_and_these_results_make(self):
        one = results.load(bench.NAME)
        if one is None:
            pytest.skip("gpu has no results yet")
        text = page.PAGE.read_text(encoding="utf-8")
        assert marks.render(text, page.parts(one)) == text

    def test_its_words_are_true_of_these_figures(self):
        one = results.load(bench.NAME)
        if one is None:
            pytest.skip("gpu has no results yet")
        table = tables.overtakes(one)
        estimated = {row[0]: row[-1] for row in table.rows}
        wide = {name: gain for name, gain in estimated.items() if "units" in name}
        shipped = [gain for name, gain in estimated.items() if name not in wide]
        given = Assumptions()
        assert max(shipped) < given.gpu_hour_usd / given.core_hour_usd / 2  # "a handful", "dozens"
        assert max(wide.values()) > max(shipped)  # "perhaps"
        cpu = {name["graph"]: name["seconds"]["cpu"] for name in one["summary"]["inside"]}
        assert cpu["house_price/1"]["256"] / 256 < 1e-6  # "less than a microsecond"

    def test_the_same_results_make_the_same_page(self, record, tmp_path):
        results.save({**record, "benchmark": "gpu"}, tmp_path)
        text = page.PAGE.read_text(encoding="utf-8")
        once = marks.render(text, page.parts(record))
        assert marks.render(once, page.parts(results.load("gpu", tmp_path))) == once
        assert marks.render(text, page.parts(with_gpu(record))) != once

    def test_a_part_without_a_mark_is_an_error(self, record):
        with pytest.raises(ValueError, match="has the marks"):
            marks.render("<!-- made: one -->\n<!-- end -->\n", page.parts(record))

    def test_estimates_follow_the_formula_of_the_page(self):
        of = estimate.Anatomy(10, 2e6, 4_000_000, 1e4, 1e3, 2)
        given = estimate.Assumptions(launch_us=5, copy_us=10, pcie_gb=25, memory_tb=2, tflops=20)
        assert estimate.seconds(of, 0, 0.0, given) == pytest.approx(70e-6 + 2e-6)
        assert estimate.seconds(of, 1000, 1e-3, given) == pytest.approx(1e-3 + 70e-6 + 40e-6 + 100e-6)
        assert set(estimate.WORDS) == set(vars(given))
        text = page.PAGE.read_text(encoding="utf-8")
        assert all(name in text for name in estimate.WORDS)


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
