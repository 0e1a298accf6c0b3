"""What the Open Inference Protocol tells over HTTP about the server, its models and its repository."""

import pytest

from serving.api.inference import about
from tests.serving.api.desk import Desk
from tests.serving.api.rest.client import Client
from tests.serving.api.rest.conftest import READY, Management

pytestmark = pytest.mark.asyncio


async def test_the_server_is_there(client: Client) -> None:
    answer = await client.get("/v2/health/live")
    assert (answer.status, answer.json) == (200, {"live": True})


async def test_the_server_is_ready_where_its_health_says_so(client: Client) -> None:
    answer = await client.get("/v2/health/ready")
    assert (answer.status, answer.json) == (200, {"ready": True})
    READY["ready"] = False
    answer = await client.get("/v2/health/ready")
    assert answer.status == 503
    assert answer.error.startswith("not every model is ready")


async def test_the_server_tells_its_extensions(client: Client) -> None:
    answer = await client.get("/v2")
    assert answer.json == about.server()
    assert "binary_tensor_data" in answer.json["extensions"]
    assert not any("shared_memory" in each or each in ("trace", "logging") for each in answer.json["extensions"])


@pytest.mark.parametrize("path", ["/v2/models/topic", "/v2/models/topic/versions/1"])
async def test_a_model_is_described(desk: Desk, client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.json == about.model(desk.models, "topic", "1")
    assert (answer.json["name"], answer.json["versions"]) == ("topic", ["1"])
    assert [output["name"] for output in answer.json["outputs"]] == ["probability", "known_words"]
    ready = await client.get(f"{path}/ready")
    assert (ready.status, ready.json) == (200, {"name": "topic", "ready": True})
    configuration = (await client.get(f"{path}/config")).json
    assert configuration == about.configuration(desk.models, "topic", "1", 0.001)
    assert configuration["max_batch_size"] == 8
    assert configuration["dynamic_batching"]["max_queue_delay_microseconds"] == 1000


@pytest.mark.parametrize("what", ["", "/ready", "/config", "/stats"])
@pytest.mark.parametrize("path", ["/v2/models/nobody", "/v2/models/topic/versions/9", "/v2/models/a%2fb"])
async def test_what_is_not_there_is_not_found(client: Client, path: str, what: str) -> None:
    answer = await client.get(path + what)
    assert answer.status == 404
    assert answer.error


async def test_statistics(desk: Desk, client: Client) -> None:
    for _ in range(3):
        await client.post("/v1/house-price", {"houses": [{}, {}]})
    await client.post("/v1/house-price", {"houses": []})
    [found] = (await client.get("/v2/models/house_price/stats")).json["model_stats"]
    assert (found["name"], found["version"]) == ("house_price", "1")
    assert (found["inference_count"], found["execution_count"]) == (6, 3)
    assert found["inference_stats"]["success"]["count"] == 3
    assert found["inference_stats"]["fail"]["count"] == 1
    [of_version] = (await client.get("/v2/models/house_price/versions/1/stats")).json["model_stats"]
    assert of_version == found
    of_all = (await client.get("/v2/models/stats")).json["model_stats"]
    assert {each["name"] for each in of_all} == {"house_price", "sentiment", "topic"}


async def test_the_repository_index(client: Client) -> None:
    ready = {"name": "topic", "version": "1", "state": "READY", "reason": ""}
    other = {"name": "topic", "version": "2", "state": "UNAVAILABLE", "reason": "damaged"}
    assert (await client.post("/v2/repository/index")).json == [ready, other]
    assert (await client.post("/v2/repository/index", b"{}")).json == [ready, other]
    assert (await client.post("/v2/repository/index", {"ready": True})).json == [ready]
    answer = await client.post("/v2/repository/index", {"ready": 1})
    assert (answer.status, answer.error) == (400, "ready: expected `bool`, got `int`")


@pytest.mark.parametrize("what", ["load", "unload"])
async def test_models_are_loaded_and_unloaded(client: Client, management: Management, what: str) -> None:
    for body in (b"", b"{}", b'{"parameters": {"unload_dependents": false}}'):
        answer = await client.post(f"/v2/repository/models/topic/{what}", body)
        assert (answer.status, answer.json) == (200, {})
    assert management.asked == [(what, "topic")] * 3
    answer = await client.post(f"/v2/repository/models/absent/{what}")
    assert (answer.status, answer.error) == (404, "absent is not there")


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx"])
async def test_a_load_brings_nothing_along(client: Client, management: Management, parameter: str) -> None:
    answer = await client.post("/v2/repository/models/topic/load", {"parameters": {parameter: "{}"}})
    assert answer.status == 400
    assert answer.error.startswith(f"parameters['{parameter}']")
    assert management.asked == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("GET", "/v2/cudasharedmemory/region/r/status"),
        ("POST", "/v2/cudasharedmemory/unregister"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/topic/trace/setting"),
        ("POST", "/v2/logging"),
    ],
)
async def test_what_is_not_offered_says_so(client: Client, method: str, path: str) -> None:
    answer = await client.begin(method, path, b"{}").answer()
    assert answer.status == 501
    assert answer.error.startswith("not offered")


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v2/", "/v2/models", "/v2/models//infer", "/V2", "/docs/"])
async def test_paths_that_are_none(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.error) == (
        404,
        f"there is nothing at '{path}'; GET /openapi.json tells what there is",
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/sentiment", "POST"),
        ("PUT", "/v2/models/topic/infer", "POST"),
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", "/v2/models/topic", "GET, HEAD"),
        ("OPTIONS", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_methods_that_a_path_does_not_take(client: Client, method: str, path: str, allow: str) -> None:
    answer = await client.begin(method, path).answer()
    assert (answer.status, answer.error, answer.fields["allow"]) == (405, f"this path takes: {allow}", allow)


async def test_head_is_answered_as_get(client: Client) -> None:
    answer = await client.begin("HEAD", "/v2").answer()
    assert answer.status == 200
