"""What an application does with Triton's gRPC client; run as a process: address, CA file or "-", kind."""

import asyncio
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

FEATURES = np.array([[0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]], np.float32)
TEXTS = np.array([b"a wonderful, moving film", "dreadful, dull \u2014 awful".encode(), b""], np.object_)


def inputs(name: str, data: Any) -> list[Any]:
    tensor = triton.InferInput(name, data.shape, "BYTES" if data.dtype == np.object_ else "FP32")
    tensor.set_data_from_numpy(data)
    return [tensor]


def refused(code: str, words: str, call: Any, *arguments: Any, **options: Any) -> None:
    found = None
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        found = error
    assert found is not None, f"{words}: nothing was refused"
    assert code in str(found.status()), found
    assert words in found.message(), found


def secured(ca: str) -> dict[str, Any]:
    return {} if ca == "-" else {"ssl": True, "root_certificates": ca}


def statistics(client: Any, name: str) -> Any:
    """Of the version that answers where none is asked for: the highest."""
    found = client.get_inference_statistics(name).model_stats
    assert {stats.name for stats in found} == {name}
    return max(found, key=lambda stats: int(stats.version))


def sync(address: str, ca: str) -> None:
    with triton.InferenceServerClient(address, **secured(ca)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("topic")
        assert client.is_model_ready("topic", "1")
        assert not client.is_model_ready("none")
        metadata = client.get_server_metadata(as_json=True)
        assert metadata["name"] == "triptych"
        assert "statistics" in metadata["extensions"]
        assert client.get_model_metadata("house_price").inputs[0].shape == [-1, 13]
        assert client.get_model_config("house_price").config.max_batch_size >= 1

        for rows in (1, 1, 5):
            found = client.infer("house_price", inputs("features", np.repeat(FEATURES, rows, 0)), request_id="me")
            price = found.as_numpy("price")
            assert price.shape == (rows, 1)
            assert 10 < price[0, 0] < 50
            assert found.get_response().id == "me"
        holes = FEATURES.copy()
        holes[0, 3:7] = np.nan
        assert np.isfinite(client.infer("house_price", inputs("features", holes)).as_numpy("price")).all()

        for data in (TEXTS, TEXTS.reshape(-1, 1)):
            wanted = [triton.InferRequestedOutput(name) for name in ("known_words", "probability")]
            found = client.infer("sentiment", inputs("text", data), outputs=wanted, priority=1, timeout=30_000_000)
            assert found.as_numpy("probability")[0, 0] > 0.5 > found.as_numpy("probability")[1, 0]
            assert found.as_numpy("known_words").shape == (3,)
        best = [triton.InferRequestedOutput("probability", class_count=2)]
        classes = client.infer("topic", inputs("text", TEXTS), outputs=best).as_numpy("probability")
        assert classes.shape == (3, 2)
        assert len(classes[0, 0].decode().split(":")) == 3

        assert statistics(client, "house_price").inference_stats.success.count >= 4
        every = {(name, version) for name in ("house_price", "sentiment", "topic") for version in ("1", "2")}
        assert {(stats.name, stats.version) for stats in client.get_inference_statistics().model_stats} == every
        index = client.get_model_repository_index(as_json=True)["models"]
        assert {(model["name"], model["version"]) for model in index} == every
        assert {model["state"] for model in index} == {"READY"}

        refused("NOT_FOUND", "not in the repository", client.infer, "none", inputs("features", FEATURES))
        refused("INVALID_ARGUMENT", "does not fit", client.infer, "house_price", inputs("features", FEATURES[:, :12]))
        infinite = inputs("features", np.full((1, 13), np.inf, np.float32))
        refused("INVALID_ARGUMENT", "infinite", client.infer, "house_price", infinite)
        refused("UNIMPLEMENTED", "is not offered", client.get_system_shared_memory_status)
        refused("UNIMPLEMENTED", "is not offered", client.get_trace_settings)
        refused("UNIMPLEMENTED", "is not offered", client.get_log_settings)
        shared = triton.InferInput("features", [1, 13], "FP32")
        shared.set_shared_memory("region", 52)
        refused("UNIMPLEMENTED", "shared memory", client.infer, "house_price", [shared])
        sequence = {"sequence_id": 7, "sequence_start": True}
        refused("INVALID_ARGUMENT", "no state", client.infer, "house_price", inputs("features", FEATURES), **sequence)


def streaming(address: str, ca: str) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(address, **secured(ca)) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(100):
            client.async_stream_infer(
                "house_price",
                inputs("features", FEATURES),
                request_id=str(number),
                enable_empty_final_response=number % 2 == 0,
            )
        client.async_stream_infer("none", inputs("features", FEATURES), request_id="bad")
        client.async_stream_infer("sentiment", inputs("text", TEXTS), request_id="text")
        found = {}
        for _ in range(102):
            result, error = answers.get(timeout=30)
            if error is None:
                found[result.get_response().id] = result
                assert result.get_response().parameters["triton_final_response"].bool_param
            else:
                assert "not in the repository" in error.message()
        client.stop_stream()
    assert found.keys() == {*map(str, range(100)), "text"}
    assert found["text"].as_numpy("probability").shape == (3, 1)


def asynchronous(address: str, ca: str) -> None:
    async def run() -> None:
        async with triton_aio.InferenceServerClient(address, **secured(ca)) as client:
            assert await client.is_server_ready()
            found = await asyncio.gather(
                *(client.infer("house_price", inputs("features", FEATURES)) for _ in range(50))
            )
            assert len({result.as_numpy("price").shape for result in found}) == 1

            async def requests() -> Any:
                for number in range(20):
                    yield {
                        "model_name": "sentiment",
                        "inputs": inputs("text", TEXTS),
                        "request_id": str(number),
                    }

            seen = set()
            async for result, error in client.stream_infer(requests()):
                assert error is None
                seen.add(result.get_response().id)
            assert seen == set(map(str, range(20)))

    asyncio.run(run())


def models(address: str, ca: str) -> None:
    """For a server whose models are controlled by its clients."""
    with triton.InferenceServerClient(address, **secured(ca)) as client:
        client.unload_model("topic")
        assert not client.is_model_ready("topic")
        refused("UNAVAILABLE", "not loaded", client.infer, "topic", inputs("text", TEXTS))
        ready = client.get_model_repository_index(as_json=True)["models"]
        assert {model["name"]: model["state"] for model in ready}["topic"] == "UNAVAILABLE"
        client.load_model("topic")
        assert client.is_model_ready("topic")
        client.infer("topic", inputs("text", TEXTS))
        refused("NOT_FOUND", "none", client.load_model, "none")
        refused("INVALID_ARGUMENT", "as it lies", client.load_model, "topic", config="{}")


def beside_ours(address: str, ca: str) -> None:
    """An application that uses both clients."""
    import serving.client

    tls = None if ca == "-" else serving.client.Tls(ca)
    with (
        serving.client.PredictionClient(address, tls=tls) as ours,
        triton.InferenceServerClient(address, **secured(ca)) as theirs,
    ):
        [sentiment] = ours.predict_sentiment(["a wonderful film"])
        probability = theirs.infer("sentiment", inputs("text", np.array([b"a wonderful film"], np.object_)))
        assert abs(probability.as_numpy("probability")[0, 0] - sentiment.positive_probability) < 1e-6


def perf_analyzer(address: str, ca: str) -> None:
    """What perf_analyzer asks before it begins, and then what it sends."""
    with triton.InferenceServerClient(address, **secured(ca)) as client:
        for name in ("house_price", "sentiment"):
            metadata = client.get_model_metadata(name)
            config = client.get_model_config(name).config
            assert "statistics" in client.get_server_metadata().extensions
            before = statistics(client, name)
            assert config.max_batch_size > 0
            assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
            [tensor] = metadata.inputs
            assert tensor.shape[0] == -1
            shape = [2, *tensor.shape[1:]]
            assert len(shape) > 1
            assert shape[1:] == list(config.input[0].dims)
            data = np.zeros(shape, np.float32) if tensor.datatype == "FP32" else np.full(shape, b"word", np.object_)
            outputs = [triton.InferRequestedOutput(output.name) for output in metadata.outputs]
            client.infer(name, inputs(tensor.name, data), outputs=outputs)
            after = statistics(client, name)
            assert after.inference_count == before.inference_count + 2
            assert after.inference_stats.success.count == before.inference_stats.success.count + 1


if __name__ == "__main__":
    globals()[sys.argv[3]](sys.argv[1], sys.argv[2])
    print("done")
