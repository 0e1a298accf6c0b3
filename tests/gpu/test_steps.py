"""Every step can fail: each rule on a case that breaks it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpu.check import golden, run
from gpu.check.asking import Question, outputs
from gpu.check.context import Context
from gpu.check.finding import Finding, StepFailed, StepSkipped
from gpu.check.golden import Tolerance
from gpu.check.steps import devices, environment, kill, load, placement, refusals, serving, soak, verified
from gpu.check.traffic import MOST_WORDS, Traffic, questions
from serving.engine.device import CPU, CUDA, Device
from serving.engine.placement import Node, Placement
from serving.package.manifest import Manifest
from serving.repository.disk import Package

MODELS = Path(__file__).parents[2] / "models"
MIB = 2**20


@pytest.fixture
def found() -> Finding:
    return Finding()


@pytest.fixture(scope="module")
def packages() -> dict[str, Package]:
    return {each.manifest.name: each for each in golden.packages(MODELS) if each.manifest.version == 1}


@pytest.fixture(scope="module")
def manifests(packages: dict[str, Package]) -> list[Manifest]:
    return [package.manifest for package in packages.values()]


def test_environment_fails_where_the_driver_is_too_old_and_libraries_are_missing(monkeypatch, tmp_path, found):
    gpu = SimpleNamespace(index=0, name="Played", compute_capability="9.0", memory_bytes=4 << 30)
    seen = SimpleNamespace(version="", cuda=(12, 4), gpus=(gpu,))
    monkeypatch.setattr(environment.driver, "look", lambda index: seen)
    monkeypatch.setattr(environment.ort, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(environment.libraries, "missing", lambda: ["libcublas.so.13"])
    environment.run(Context("cuda", MODELS, tmp_path), found)
    said = "\n".join(found.failures)
    assert "the driver is too old: it has CUDA 12, onnxruntime needs 13" in said
    assert "CUDA libraries are missing: libcublas.so.13" in said


@pytest.mark.parametrize(
    ("code", "seconds", "said", "wrong"),
    [
        (1, 1.0, "device cuda can't be had: no driver", None),
        (0, 60.0, "nothing: it serves", "expected a refusal"),
        (-11, 1.0, "device cuda can't be had: no driver", "ended with -11"),
        (1, 2.5, "device cuda can't be had: no driver", "took 2.50 s, more than 2"),
        (1, 1.0, "Traceback", "does not say why"),
        (1, 1.0, "device cuda can't be had: another reason", "does not say why"),
    ],
)
def test_refusals(found, code, seconds, said, wrong):
    refusals.judge(found, "hidden", code, seconds, said, "no driver", refusals.SECONDS)
    assert (wrong is None) is (not found.failures)
    assert wrong is None or wrong in found.failures[0]


def test_a_server_that_should_not_start_is_timed_and_heard(tmp_path):
    code, seconds, said = refusals._refusal(Context("cuda", MODELS, tmp_path), "cuda:99", {})
    assert code > 0
    assert 0 < seconds < refusals.HOPELESS_SECONDS
    assert "device cuda:99 can't be had: " in said


def test_verified_fails_for_answers_outside_the_tolerance(found, packages):
    package, here = packages["house_price"], Device(CPU)
    line = verified.measured(found, package, here, None, None)
    assert found.failures == []
    assert 0 < line[1] < 1
    manifest = package.manifest
    moved = {"price": [[price + 1 for price in row] for row in manifest.golden.outputs["price"]]}
    wrong = replace(package, manifest=_changed(manifest, golden=_changed(manifest.golden, outputs=moved)))
    verified.measured(found, wrong, here, None, None)
    assert "of its tolerance from its golden outputs" in found.failures[0]


def test_half_precision_is_held_to_a_tolerance_of_its_own(found, packages):
    half = verified._half(found)
    package = packages["topic"]
    line = verified.measured(found, package, Device(CPU), None, half)
    assert 0 < line[3] < 1
    assert found.failures == []
    outputs = package.manifest.golden.outputs
    moved = {**outputs, "probability": [[one + 0.01 for one in row] for row in outputs["probability"]]}
    golden = _changed(package.manifest.golden, outputs=moved)
    wrong = replace(package, manifest=_changed(package.manifest, golden=golden))
    assert verified._share_in_half(found, wrong, Device(CPU), half) > 1
    assert found.failures[0].startswith("half precision of topic 1: ")


def test_placement_fails_for_a_node_without_a_reason_and_where_nothing_is_on_the_gpu(found):
    words = Node("split", "StringSplit", CPU, frozenset({"string"}))
    dense = Node("dense", "MatMul", CUDA, frozenset({"float"}))
    lost = Node("lost", "MatMul", CPU, frozenset({"float"}))
    placement.judge(found, "topic 1", Placement([words, dense]), CUDA)
    assert found.failures == []
    placement.judge(found, "topic 1", Placement([words, dense, lost]), CUDA)
    assert found.failures == ["topic 1: not on CUDAExecutionProvider, without a reason: MatMul"]
    placement.judge(found, "topic 1", Placement([words]), CUDA)
    assert found.failures[1] == "topic 1: no node ran on CUDAExecutionProvider"


def test_serving_fails_for_answers_that_differ_from_the_cpus(found, manifests):
    manifest = next(each for each in manifests if each.name == "house_price")
    wanted = golden.expected(manifest)
    right: Any = SimpleNamespace(infer=lambda asked: wanted, typed=lambda asked: wanted[0][:, 0])
    off: Any = SimpleNamespace(infer=lambda asked: [wanted[0] + 0.1], typed=lambda asked: wanted[0][:, 0] + 0.1)
    assert serving.compared(found, manifest, right, right, on_cuda=True) == ["house_price 1", 0, 0, 0]
    assert found.failures == []
    serving.compared(found, manifest, right, off, on_cuda=True)
    assert len(found.failures) == 2
    serving.compared(found, manifest, off, off, on_cuda=True)
    assert "of the tolerance from the golden answers" in found.failures[2]


def test_serving_fails_for_metrics_that_do_not_tell_of_the_gpu(found, manifests):
    [manifest] = manifests[:1]
    labels = {"model": manifest.name, "version": "1"}
    serving.informed(found, [("triptych_model_info", labels | {"provider": CPU}, 1.0)], [manifest], CUDA)
    assert found.failures == [f"{manifest.name} 1: triptych_model_info says {CPU}"]
    serving.told(found, [], [manifest])
    assert any("there is no triptych_model_gpu_memory_bytes" in failure for failure in found.failures)
    assert "triptych_gpu_info names no GPU" in found.failures
    fine = Finding()
    samples = [(serving.MEMORY, labels | {"gpu": "0"}, 2.0 * MIB), ("triptych_gpu_info", {"name": "Played"}, 1.0)]
    serving.told(fine, samples, [manifest])
    assert fine.failures == []


def test_serving_fails_where_index_and_statistics_do_not_tell_of_memory(found, manifests):
    usage = SimpleNamespace(type="GPU", byte_size=2 * MIB)

    def asker(reason: str, usages: list[Any]) -> Any:
        entries = [SimpleNamespace(name=each.name, version="1", reason=reason) for each in manifests]
        statistics = [SimpleNamespace(name=each.name, version="1", memory_usage=usages) for each in manifests]
        return SimpleNamespace(
            inference=SimpleNamespace(
                RepositoryIndex=lambda request, timeout: SimpleNamespace(models=entries),
                ModelStatistics=lambda request, timeout: SimpleNamespace(model_stats=statistics),
            )
        )

    serving._listed(found, asker("GPU memory: cuda:0 2.1 MB", [usage]), manifests)
    assert found.failures == []
    serving._listed(found, asker("", []), manifests)
    assert len(found.failures) == 2 * len(manifests) + 1


def test_load_takes_medians_and_the_highest_utilisation():
    seen: list[Any] = [
        SimpleNamespace(per_second=speed, p50_ms=1 / speed, p99_ms=2.0, gpu_utilization=busy)
        for speed, busy in ((10, 0.1), (30, 0.9), (20, None))
    ]
    assert load.median(seen, 64) == (64 * 20, 1 / 20, 2.0, 0.9)


@pytest.mark.parametrize(
    ("samples", "flat"),
    [
        ([9, 5, *[100] * 10], True),
        ([*range(100, 200)], False),
        ([*[50] * 50, *[100] * 50], False),  # a step, late
        ([*[10] * 25, *[100] * 75], True),  # the beginning does not count
        ([*[100] * 75, *[100.9] * 25], True),
        ([*[100] * 75, *[101.1] * 25], False),
        ([*[100] * 95, *[500] * 5], True),  # somebody looked in
        ([], False),
    ],
)
def test_soak_fails_where_memory_grows(found, samples, flat):
    soak.judge(found, [MIB * float(one) for one in samples])
    assert (not found.failures) is flat


def test_kill_fails_for_calls_that_end_otherwise_and_calls_that_are_lost(found):
    kill.judge(found, "then", {"UNAVAILABLE": 3}, [])
    kill.lost(found, told=120, before=100, received=20)
    assert found.failures == []
    kill.judge(found, "then", {"UNAVAILABLE": 3, "INTERNAL": 1}, ["wrong"], ["INTERNAL: no"])
    kill.lost(found, told=120, before=100, received=19)
    assert found.failures[0] == "then, calls ended with INTERNAL: ['INTERNAL: no']"
    assert "answers were wrong" in found.failures[1]
    assert found.failures[2] == "it answered 20 calls, of which 19 arrived"


def test_kill_fails_for_memory_that_stays(found, monkeypatch, tmp_path):
    monkeypatch.setattr(kill, "RETURN_SECONDS", 0.0)
    context = Context("cuda", MODELS, tmp_path)
    monkeypatch.setattr(kill, "used", lambda context: 500 * MIB)
    kill._returned(context, found, 500 * MIB, 900 * MIB)
    assert found.failures == []
    kill._returned(context, found, 300 * MIB, 900 * MIB)
    assert found.failures == ["200 MiB of the GPU did not come back"]
    kill._returned(context, found, None, None)
    assert len(found.failures) == 2


def test_devices_fails_for_one_that_is_idle_or_empty(found):
    devices.judge(found, {"0": 0.5, "1": 0.4}, {"0", "1"})
    assert found.failures == []
    devices.judge(found, {"0": 0.5, "1": 0.0}, {"0"})
    assert found.failures == ["no model is on cuda:1", "cuda:1 was never seen at work"]


def test_questions_vary_and_know_their_answers(manifests):
    asked = questions(manifests, each=22)
    assert len(asked) == 66
    assert {question.rows for question in asked} >= {1, 2, 64, 256}
    assert len({len(question.message) for question in asked}) > 30
    known = [question for question in asked if question.expected]
    assert 33 <= len(known) < len(asked)
    assert all(len(array) == question.rows for question in known for array in question.expected)
    assert max(len(question.message) for question in asked) < 4 * MIB
    assert MOST_WORDS // 256 > 0


def test_an_answer_that_is_wrong_is_noticed(manifests):
    from tritonclient.grpc import service_pb2 as oip

    def answer(*values: float) -> bytes:
        tensor = oip.ModelInferResponse.InferOutputTensor(name="price", datatype="FP32", shape=[len(values), 1])
        raw = np.array(values, np.float32).tobytes()
        return bytes(oip.ModelInferResponse(outputs=[tensor], raw_output_contents=[raw]).SerializeToString())

    assert outputs(answer(1, 2))[0].tolist() == [[1], [2]]
    asked = Question("house_price", 1, b"", [np.array([[1.0], [2.0]], np.float32)], 2)
    traffic = Traffic("", [asked], {"house_price": Tolerance(1e-4, 1e-4)})
    traffic._check(asked, answer(1, 2.0001))
    assert traffic.wrong == []
    traffic._check(asked, answer(1, 2.1))
    traffic._check(asked, answer(1))
    assert len(traffic.wrong) == 3  # the second lacks a row, too


def test_a_tolerance_is_used_up_by_a_share():
    allowed = Tolerance(0.1, 0.0)
    one = np.array([1.0, np.nan])
    assert allowed.share(np.array([1.05, np.nan]), one) == pytest.approx(0.5)
    assert allowed.share(np.array([np.nan, np.nan]), one) == np.inf
    assert allowed.share(np.array([1.0]), one) == np.inf
    assert Tolerance(0.0, 0.0).share(one, one) == 0
    words = np.array(["a"], np.object_)
    assert allowed.share(words, words) == 0
    assert allowed.share(np.array(["b"], np.object_), words) == np.inf


def test_what_a_step_raises_is_its_own_failure(tmp_path):
    def skips(context: Context, found: Finding) -> None:
        raise StepSkipped("one GPU")

    def gives_up(context: Context, found: Finding) -> None:
        found.expect(False, "first")
        raise StepFailed("then")

    def breaks(context: Context, found: Finding) -> None:
        raise ZeroDivisionError("oh")

    context = Context("cuda", MODELS, tmp_path)
    assert run.one("devices", skips, context).verdict == "skipped"
    assert run.one("soak", gives_up, context).reasons == ("first", "then")
    broken = run.one("load", breaks, context)
    assert broken.verdict == "failed"
    assert broken.reasons == ("ZeroDivisionError: oh (load.traceback has where)",)
    assert "ZeroDivisionError" in (tmp_path / "load.traceback").read_text()
    assert not context.rehearsal
    assert Context("cpu", MODELS, tmp_path).rehearsal
    assert Context("cuda:3", MODELS, tmp_path).index == 3


def _changed(struct: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(struct, **changes)
