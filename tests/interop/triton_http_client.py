"""What an application does with Triton's HTTP client; run as a process: address, CA file or "-", kind."""

import ssl
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

FEATURES = np.array([[0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]], np.float32)
TEXTS = np.array([b"a wonderful, moving film", "dreadful, dull \u2014 awful".encode(), b""], np.object_)


def connected(address: str, ca: str, **options: Any) -> Any:
    if ca != "-":
        options |= {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=ca)}
    return triton.InferenceServerClient(address, **options)


def inputs(name: str, data: Any, *, binary: bool = True) -> list[Any]:
    tensor = triton.InferInput(name, data.shape, "BYTES" if data.dtype == np.object_ else "FP32")
    tensor.set_data_from_numpy(data, binary_data=binary)
    return [tensor]


def refused(status: str, words: str, call: Any, *arguments: Any, **options: Any) -> None:
    found = None
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        found = error
    assert found is not None, f"{words}: nothing was refused"
    assert found.status() == status, found
    assert words in found.message(), found


def sync(address: str, ca: str) -> None:
    with connected(address, ca) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("topic")
        assert client.is_model_ready("topic", "1")
        assert not client.is_model_ready("none")
        metadata = client.get_server_metadata()
        assert metadata["name"] == "triptych"
        assert {"binary_tensor_data", "statistics"} <= set(metadata["extensions"])
        assert client.get_model_metadata("house_price")["inputs"][0]["shape"] == [-1, 13]
        assert client.get_model_config("house_price")["max_batch_size"] >= 1

        prices = []
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput("price", binary_data=binary)]
            for rows in (1, 5):
                data = inputs("features", np.repeat(FEATURES, rows, 0), binary=binary)
                found = client.infer("house_price", data, request_id="me", outputs=outputs)
                price = found.as_numpy("price")
                assert price.shape == (rows, 1)
                assert price.dtype == np.float32
                assert found.get_response()["id"] == "me"
                prices.append(price[0, 0])
            prices.append(client.infer("house_price", data).as_numpy("price")[0, 0])
        assert np.allclose(prices, prices[0], rtol=1e-6)
        assert 10 < prices[0] < 50
        holes = FEATURES.copy()
        holes[0, 3:7] = np.nan
        assert np.isfinite(client.infer("house_price", inputs("features", holes)).as_numpy("price")).all()

        for data in (TEXTS, TEXTS.reshape(-1, 1)):
            for binary in (True, False):
                wanted = [
                    triton.InferRequestedOutput(name, binary_data=binary) for name in ("known_words", "probability")
                ]
                found = client.infer(
                    "sentiment",
                    inputs("text", data, binary=binary),
                    model_version="1",
                    outputs=wanted,
                    priority=1,
                    timeout=30_000_000,
                )
                assert found.as_numpy("probability")[0, 0] > 0.5 > found.as_numpy("probability")[1, 0]
                assert found.as_numpy("known_words").shape == (3,)
                best = [triton.InferRequestedOutput("probability", binary_data=binary, class_count=2)]
                classes = client.infer("topic", inputs("text", data, binary=binary), outputs=best)
                assert classes.as_numpy("probability").shape == (3, 2)
        mixed = [
            triton.InferRequestedOutput("known_words", binary_data=False),
            triton.InferRequestedOutput("probability", binary_data=True),
        ]
        found = client.infer("topic", inputs("text", TEXTS), outputs=mixed)
        assert (found.as_numpy("known_words").shape, found.as_numpy("probability").shape) == ((3,), (3, 46))

        found = client.get_inference_statistics("house_price")["model_stats"]
        count = {stats["version"]: stats["inference_stats"]["success"]["count"] for stats in found}
        assert count.keys() == {"1", "2"}
        assert count["2"] >= 6, "the highest answers"
        every = {(name, version) for name in ("house_price", "sentiment", "topic") for version in ("1", "2")}
        statistics = client.get_inference_statistics()["model_stats"]
        assert {(stats["name"], stats["version"]) for stats in statistics} == every
        index = client.get_model_repository_index()
        assert {(model["name"], model["version"]) for model in index} == every
        assert {model["state"] for model in index} == {"READY"}

        refused("404", "not in the repository", client.infer, "none", inputs("features", FEATURES))
        refused("400", "does not fit", client.infer, "house_price", inputs("features", FEATURES[:, :12]))
        infinite = inputs("features", np.full((1, 13), np.inf, np.float32))
        refused("400", "infinite", client.infer, "house_price", infinite)
        refused("501", "not offered", client.get_system_shared_memory_status)
        refused("501", "not offered", client.get_cuda_shared_memory_status)
        refused("501", "not offered", client.get_trace_settings)
        refused("501", "not offered", client.get_log_settings)
        shared = triton.InferInput("features", [1, 13], "FP32")
        shared.set_shared_memory("region", 52)
        refused("501", "shared memory", client.infer, "house_price", [shared])
        sequence = {"sequence_id": 7, "sequence_start": True}
        refused("400", "no state", client.infer, "house_price", inputs("features", FEATURES), **sequence)


def asynchronous(address: str, ca: str) -> None:
    with connected(address, ca, concurrency=8) as client:
        waiting = [client.async_infer("house_price", inputs("features", FEATURES)) for _ in range(100)]
        prices = {float(each.get_result().as_numpy("price")[0, 0]) for each in waiting}
        assert max(prices) - min(prices) < 1e-3


def compressed(address: str, ca: str) -> None:
    with connected(address, ca) as client:
        data = inputs("text", np.repeat(TEXTS, 20))
        plain = client.infer("topic", data)
        for request in (None, "gzip", "deflate"):
            for response in (None, "gzip", "deflate"):
                found = client.infer(
                    "topic",
                    data,
                    request_compression_algorithm=request,
                    response_compression_algorithm=response,
                )
                assert np.array_equal(found.as_numpy("probability"), plain.as_numpy("probability"))


def models(address: str, ca: str) -> None:
    """For a server whose models are controlled by its clients."""
    with connected(address, ca) as client:
        client.unload_model("topic")
        assert not client.is_model_ready("topic")
        refused("503", "not loaded", client.infer, "topic", inputs("text", TEXTS))
        states = {model["name"]: model["state"] for model in client.get_model_repository_index()}
        assert states["topic"] == "UNAVAILABLE"
        client.load_model("topic")
        assert client.is_model_ready("topic")
        client.infer("topic", inputs("text", TEXTS))
        refused("404", "none", client.load_model, "none")
        refused("400", "as it lies", client.load_model, "topic", config="{}")


if __name__ == "__main__":
    globals()[sys.argv[3]](sys.argv[1], sys.argv[2])
    print("done")
