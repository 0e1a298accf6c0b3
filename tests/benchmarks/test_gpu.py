"""The benchmark of GPUs, on a machine that need not have one."""

import copy
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import marks, results
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.gpu import __main__ as alone
from benchmarks.gpu import bench, estimate, graphs, inprocess, page, tables, worth
from benchmarks.gpu.crossover import at_best, crossover
from benchmarks.gpu.inputs import MODELS, load
from benchmarks.gpu.tables import NOT_MEASURED
from benchmarks.scaling import page as scaling_page
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
        assert benchmarks_main(["gpu", "--quick", "--devices", "cpu,auto"]) == 1
        assert "auto is the CPU here" in capsys.readouterr().out.replace("\n", " ")

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
        overtakes = found["Where a GPU overtakes the CPU"]
        assert all(name.startswith("estimate: ") for name in overtakes.columns[1:])
        assert record["settings"]["no_gpu"] in overtakes.note
        assert "ran there" not in found["What a GPU would have to do"].columns
        assert "GPU MiB" not in found["Through gRPC"].columns
        assert "Ways to run a session" not in found
        ways = page.parts(record)["ways"]
        assert "|" not in ways
        assert "skipped: CUDA graph, TF32, page-locked memory" in ways
        assert "failed" not in ways
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
        anatomy = found["What a GPU would have to do"]
        ran = anatomy.columns.index("ran there")
        assert all(str(row[ran]).startswith("7 of ") for row in anatomy.rows)
        made = page.parts(with_gpu(record))
        assert "cuda:0 (NVIDIA Imaginary)" in made["source"]
        assert "measured on one NVIDIA Imaginary" in made["seen"]
        assert made["ways"].startswith("| way |")
        assert "does the work of" in made["how much"]
        assert "shipped models and of" in made["how much"]
        assert "measured." in made["how much"]
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
        gains = tables.gains(one)
        wide = {name: gain for name, gain in gains.items() if "units" in name}
        shipped = [gain for name, gain in gains.items() if name not in wide]
        assert max(shipped) < worth.price()  # "fewer cores than its price buys"
        assert max(wide.values()) > max(shipped)  # "perhaps"
        cpu = {name["graph"]: name["seconds"]["cpu"] for name in one["summary"]["inside"]}
        assert cpu["house_price/1"]["256"] / 256 < 1e-6  # "less than a microsecond"
        anatomy = {name["graph"]: name["anatomy"] for name in one["summary"]["inside"]}
        for name in ("house_price/1", "house_price/2"):
            assert 5e3 < anatomy[name]["flop_per_row"] < 5e4  # "some ten thousand operations"
        kernels = [found["nodes"] for name, found in anatomy.items() if name not in wide]
        assert f"have {min(kernels)} to {max(kernels)} kernels" in page.PAGE.read_text(encoding="utf-8")

    def test_what_is_left_in_a_whole_request_is_what_the_page_of_scaling_says(self, record):
        row = next(line for line in scaling_page.parts()["gpus"].splitlines() if line.startswith("| sentiment |"))
        best = next(cell.strip() for cell in row.split("|") if "×" in cell)
        assert f"{best} as many sentiment requests at best" in worth.how_much(record)

    def test_the_example_is_the_sum_of_its_figures(self, record):
        one = copy.deepcopy(next(one for one in record["summary"]["inside"] if one["graph"] == "sentiment/1"))
        one["seconds"] = {"cpu": {"1": 60e-6, "256": 256 * 20e-6}, "front": {"1": 30e-6, "256": 256 * 15e-6}}
        found = worth.worth(one)
        assert (found.row_us, found.cores, found.stays) == pytest.approx((20.0, 2.0, 0.75))
        assert found.pays_from * 5e-6 == pytest.approx(worth.price())
        inside = [one if other["graph"] == one["graph"] else other for other in record["summary"]["inside"]]
        told = worth.how_much({**record, "summary": {**record["summary"], "inside": inside}})
        assert "100,000 reviews a second at 20.0 µs are 2.0 cores, of which 0.5 could go to a GPU" in told

    @pytest.mark.parametrize(
        ("quick", "cores", "said"), [(False, 0.2, []), (False, 0.5, ["0.50 cores"]), (True, 0.0, ["quick run"])]
    )
    def test_figures_that_are_not_to_be_trusted_say_so_in_bold_beside_the_date(self, record, quick, cores, said):
        one = copy.deepcopy(record)
        one["settings"]["quick"] = quick
        one["rounds"] = [{**round_, "other_cores": cores} for round_ in one["rounds"]]
        bold = page.parts(one)["source"].split("**")[1:-1]
        assert len(bold) == len(said)
        assert all(words in bold[0] for words in said)
        assert bold == ([page.remark(one)] if said else [])

    def test_a_quick_run_that_is_kept_is_marked(self, record):
        assert record["settings"]["quick"]
        assert "quick run" in page.remark(record)

    def test_the_run_ends_with_saying_so(self, record, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(bench, "run", lambda _: {part: record[part] for part in ("settings", "summary", "rounds")})
        assert alone.main(["--out", str(tmp_path)]) == 0
        assert page.remark(record) in " ".join(capsys.readouterr().err.split())
        assert benchmarks_main(["gpu", "--quick"]) == 0
        assert "quick run" in "".join(capsys.readouterr().out.splitlines(keepends=True)[-4:])

    def test_what_this_process_and_its_own_use_is_nobody_elses(self):
        script = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\nsys.stdin.read()"
        before = bench.used_seconds()
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            alive = bench.used_seconds() - before
        ended = bench.used_seconds() - before
        assert min(alive, ended) > 0.15  # the kernel counts in hundredths, rounded

    def test_the_page_alone_has_headings_and_shows_some_of_the_sizes(self, record):
        assert not any(line.startswith("#") for part in page.parts(record).values() for line in part.splitlines())
        sizes = [str(2**power) for power in range(13)]
        full = copy.deepcopy(record)
        full["settings"]["batches"] = list(map(int, sizes))
        for one in full["summary"]["inside"]:
            one["seconds"]["cpu"] = {size: int(size) * 1e-6 for size in sizes}
            one["all_cores"] = dict.fromkeys(sizes, 1e6)
        assert tables.inside(full).columns[2:] == ("1", "4", "16", "64", "256", "1,024", "4,096")

    def test_a_way_that_failed_in_rehearsal_is_told_of(self, record):
        failed = copy.deepcopy(record)
        next(one for one in failed["summary"]["ways"] if one["way"] == "two threads")["skipped"] = "failed: no"
        assert "**failed**: two threads" in page.parts(failed)["ways"]

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
