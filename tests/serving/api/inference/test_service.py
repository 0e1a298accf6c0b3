"""What the service tells of itself and its models, and how they are managed through it."""

import time
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from serving import __version__
from serving.api.inference import about
from serving.api.inference.service import SERVICE, InferenceService
from serving.repository.state import Entry
from serving.status import Code, StatusError
from serving.telemetry.statistics import Statistics, Tally
from tests.serving import packages
from tests.serving.api.inference.desk import InferDesk, house, open_infer_desk, texts

pytestmark = pytest.mark.asyncio


async def test_every_method_of_the_service_has_a_route(desk: InferDesk) -> None:
    assert {
        f"/{SERVICE}/{method.name}" for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    } == set(desk.routes)


async def test_live_and_ready(desk: InferDesk) -> None:
    assert (await desk.ask("ServerLive", pb.ServerLiveRequest())).live
    assert (await desk.ask("ServerReady", pb.ServerReadyRequest())).ready
    desk.backend.draining = True
    assert (await desk.ask("ServerLive", pb.ServerLiveRequest())).live
    assert not (await desk.ask("ServerReady", pb.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("topic", "", True), ("topic", "1", True), ("topic", "2", False), ("none", "", False), ("", "", False)],
)
async def test_a_model_is_ready_or_not(desk: InferDesk, name: str, version: str, ready: bool) -> None:
    asked = pb.ModelReadyRequest(name=name, version=version)
    assert (await desk.ask("ModelReady", asked)).ready is ready
    desk.backend.draining = True
    assert not (await desk.ask("ModelReady", asked)).ready


async def test_a_server_without_one_of_its_models_is_not_ready(tmp_path: Path) -> None:
    packages.copy(tmp_path)
    broken = packages.copy(tmp_path, "topic")
    (broken / "model.onnx").write_bytes(b"damaged")
    desk = await open_infer_desk(tmp_path)
    assert not (await desk.ask("ServerReady", pb.ServerReadyRequest())).ready
    assert (await desk.ask("ModelReady", pb.ModelReadyRequest(name="house_price"))).ready
    assert not (await desk.ask("ModelReady", pb.ModelReadyRequest(name="topic"))).ready
    assert desk.error(texts("topic", ["x"])).code is Code.UNAVAILABLE
    assert desk.count(Code.UNAVAILABLE, "topic", "unknown") == 1
    await desk.models.close()


async def test_the_server_tells_what_it_offers(desk: InferDesk) -> None:
    found = await desk.ask("ServerMetadata", pb.ServerMetadataRequest())
    assert (found.name, found.version) == ("triptych", __version__)
    assert {"statistics", "model_configuration", "classification", "schedule_policy"} <= set(found.extensions)
    assert not {"system_shared_memory", "cuda_shared_memory", "trace", "logging", "sequence"} & set(found.extensions)


async def test_models_are_told_as_they_may_be_asked(desk: InferDesk) -> None:
    found = await desk.ask("ModelMetadata", pb.ModelMetadataRequest(name="sentiment"))
    assert (found.name, list(found.versions), found.platform) == ("sentiment", ["1"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("text", "BYTES", [-1, 1])]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.outputs] == [
        ("probability", "FP32", [-1, 1]),
        ("known_words", "FP32", [-1]),
    ]


async def test_all_versions_that_are_ready_are_told(tmp_path: Path) -> None:
    for version in (2, 10):
        packages.copy(tmp_path, version=version)
    desk = await open_infer_desk(tmp_path)
    found = await desk.ask("ModelMetadata", pb.ModelMetadataRequest(name="house_price"))
    assert list(found.versions) == ["2", "10"]
    config = (await desk.ask("ModelConfig", pb.ModelConfigRequest(name="house_price", version="2"))).config
    assert list(config.version_policy.specific.versions) == [2, 10]
    for version, answered in (("", "10"), ("2", "2"), ("10", "10"), ("2", "2")):
        assert (await desk.answer(house(model_version=version))).model_version == answered
    await desk.models.close()


async def test_the_configuration_is_derived(desk: InferDesk) -> None:
    found = (await desk.ask("ModelConfig", pb.ModelConfigRequest(name="house_price", version="1"))).config
    assert (found.name, found.platform, found.backend) == ("house_price", "onnxruntime_onnx", "onnxruntime")
    assert found.max_batch_size == desk.models.resolve("house_price", "").batch_rows == 8
    assert [(t.name, t.data_type, list(t.dims)) for t in found.input] == [("features", config_pb.TYPE_FP32, [13])]
    assert [(t.name, t.data_type, list(t.dims)) for t in found.output] == [("price", config_pb.TYPE_FP32, [1])]
    batching = found.dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (3, 2)
    assert batching.max_queue_delay_microseconds == 0
    assert batching.default_queue_policy.allow_timeout_override
    assert batching.default_queue_policy.max_queue_size == desk.models.max_rows
    assert [group.kind for group in found.instance_group] == [config_pb.ModelInstanceGroup.KIND_CPU]
    assert list(found.version_policy.specific.versions) == [1]
    assert not found.model_transaction_policy.decoupled
    assert found.WhichOneof("scheduling_choice") == "dynamic_batching"
    text = (await desk.ask("ModelConfig", pb.ModelConfigRequest(name="topic"))).config
    assert [(t.name, t.data_type, list(t.dims)) for t in text.input] == [("text", config_pb.TYPE_STRING, [1])]
    assert [t.HasField("reshape") and not t.reshape.shape for t in text.input] == [True]
    assert [list(t.dims) for t in text.output] == [[46], []]
    assert not found.input[0].HasField("reshape")


async def test_a_delay_of_batches_is_told(desk: InferDesk) -> None:
    desk.routes = InferenceService(desk.backend, desk.management, 0.0025).routes()
    found = (await desk.ask("ModelConfig", pb.ModelConfigRequest(name="topic"))).config
    assert found.dynamic_batching.max_queue_delay_microseconds == 2500


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ModelMetadata", pb.ModelMetadataRequest),
        ("ModelConfig", pb.ModelConfigRequest),
        ("ModelStatistics", pb.ModelStatisticsRequest),
    ],
)
async def test_of_unknown_models_nothing_is_told(desk: InferDesk, method: str, request_: Any) -> None:
    assert desk.call(method, request_(name="none")).error.code is Code.NOT_FOUND
    assert desk.call(method, request_(name="topic", version="9")).error.code is Code.NOT_FOUND
    assert desk.call(method, b"\xff\xff").error.code is Code.INVALID_ARGUMENT


async def test_statistics_count_what_was_done(desk: InferDesk) -> None:
    before = time.time()
    await desk.answer(house(3))
    await desk.answer(house(1))
    desk.error(house(model_version="1", parameters={"timeout": pb.InferParameter(int64_param=-1)}))
    infinite = house()
    infinite.raw_input_contents[0] = b"\0\0\x80\x7f" * 13
    desk.error(infinite)
    [found] = (await desk.ask("ModelStatistics", pb.ModelStatisticsRequest(name="house_price"))).model_stats
    assert (found.name, found.version) == ("house_price", "1")
    assert (found.inference_count, found.execution_count) == (4, 2)
    stats = found.inference_stats
    assert (stats.success.count, stats.fail.count, stats.queue.count, stats.compute_infer.count) == (2, 1, 2, 2)
    assert stats.compute_infer.ns > 0
    assert 0 < stats.queue.ns < stats.success.ns < 60e9
    assert [(batch.batch_size, batch.compute_infer.count) for batch in found.batch_stats] == [(1, 1), (3, 1)]
    assert (before - 1) * 1000 < found.last_inference < (time.time() + 1) * 1000


async def test_statistics_of_all_or_one(desk: InferDesk) -> None:
    async def names(**asked: str) -> list[tuple[str, str]]:
        found = await desk.ask("ModelStatistics", pb.ModelStatisticsRequest(**asked))
        return [(each.name, each.version) for each in found.model_stats]

    assert await names() == [("house_price", "1"), ("sentiment", "1"), ("topic", "1")]
    assert await names(name="topic") == await names(name="topic", version="1") == [("topic", "1")]
    [never] = (await desk.ask("ModelStatistics", pb.ModelStatisticsRequest(name="topic"))).model_stats
    assert never.last_inference == 0
    assert not never.batch_stats


async def test_the_time_of_a_batch_counts_for_each_of_its_requests() -> None:
    found = Statistics(
        "m", "1", rows=10, success=Tally(10, 1.0), execution=Tally(4, 0.4), by_rows={1: Tally(2, 0.2), 4: Tally(2, 0.2)}
    )
    [told] = about.statistics([found])["model_stats"]
    assert told["inference_stats"]["compute_infer"] == {"count": 10, "ns": 1_000_000_000}
    found.success = Tally(5, 1.0)  # of two rows each
    [told] = about.statistics([found])["model_stats"]
    assert told["inference_stats"]["compute_infer"] == {"count": 5, "ns": 500_000_000}


async def test_memory_on_gpus_is_told_as_triton_does() -> None:
    one, other = Statistics("m", "1", gpu_memory={1: 30}), Statistics("m", "1", gpu_memory={0: 10, 1: 20})
    one.add(other)
    [told] = pb.ModelStatisticsResponse(**about.statistics([one])).model_stats
    assert [(each.type, each.id, each.byte_size) for each in told.memory_usage] == [("GPU", 0, 10), ("GPU", 1, 50)]


async def test_the_repository_is_told(desk: InferDesk) -> None:
    desk.management.entries = [Entry("a", "1", "READY", ""), Entry("b", "2", "UNAVAILABLE", "checksum")]
    found = await desk.ask("RepositoryIndex", pb.RepositoryIndexRequest())
    assert [(m.name, m.version, m.state, m.reason) for m in found.models] == desk.management.entries
    found = await desk.ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    assert [model.name for model in found.models] == ["a"]
    assert desk.call("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="x")).error.code is Code.NOT_FOUND
    desk.management.entries = StatusError(Code.UNAVAILABLE, "gone")
    assert desk.call("RepositoryIndex", pb.RepositoryIndexRequest()).error.message == "gone"


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_models_are_loaded_and_unloaded_by_either_field(desk: InferDesk, verb: str) -> None:
    method = f"RepositoryModel{verb.capitalize()}"
    request_ = getattr(pb, f"{method}Request")
    await desk.ask(method, request_(model_name="topic"))
    await desk.ask(method, request_(repository_name="house_price"))
    assert desk.management.asked == [(verb, "topic"), (verb, "house_price")]
    assert desk.call(method, request_()).error.code is Code.INVALID_ARGUMENT
    assert desk.call(method, request_(repository_name="mine", model_name="topic")).error.code is Code.NOT_FOUND
    assert len(desk.management.asked) == 2
    desk.management.error = StatusError(Code.FAILED_PRECONDITION, "not so")
    assert desk.call(method, request_(model_name="topic")).error.message == "not so"


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx"])
async def test_a_load_brings_nothing_of_its_own(desk: InferDesk, parameter: str) -> None:
    asked = pb.RepositoryModelLoadRequest(model_name="topic")
    asked.parameters[parameter].string_param = "{}"
    error = desk.call("RepositoryModelLoad", asked).error
    assert error.code is Code.INVALID_ARGUMENT
    assert parameter in error.message
    assert not desk.management.asked
    asked = pb.RepositoryModelUnloadRequest(model_name="topic")
    asked.parameters["unload_dependents"].bool_param = False
    await desk.ask("RepositoryModelUnload", asked)


@pytest.mark.parametrize(
    "method",
    [
        *(f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        "TraceSetting",
        "LogSettings",
    ],
)
async def test_what_is_not_offered_says_so(desk: InferDesk, method: str) -> None:
    error = desk.call(method, b"").error
    assert error.code is Code.UNIMPLEMENTED
    assert method in error.message


async def test_a_fault_is_answered(desk: InferDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "server", lambda: {"nonsense": 1})
    monkeypatch.setattr(about, "index", lambda *_, **__: [1])
    monkeypatch.setattr(desk.management, "load", lambda *_: 1 / 0)
    for method in ("ServerMetadata", "RepositoryIndex"):
        assert desk.call(method, b"").error.code is Code.INTERNAL
    asked = pb.RepositoryModelLoadRequest(model_name="topic")
    assert desk.call("RepositoryModelLoad", asked).error.code is Code.INTERNAL
