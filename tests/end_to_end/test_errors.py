"""Every mistake gets its own clear error, from the real server to a real client."""

import json
import math
import shutil
import signal
import socket
from pathlib import Path

import grpc
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import FEATURES, House, PredictionClient, PredictionError
from tests.end_to_end.server import ServerProcess
from tests.serving.packages import first_versions

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def raw_call(server: ServerProcess, method: str, message: bytes) -> bytes:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/prediction.v1.PredictionService/{method}")
        answer: bytes = call(message, timeout=30)
        return answer


def raw_error(server: ServerProcess, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(server, method, message)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize(
    ("version", "code", "words"),
    [
        ("7", grpc.StatusCode.NOT_FOUND, "sentiment has no version 7; ready: 1"),
        ("canary", grpc.StatusCode.NOT_FOUND, "no version labelled 'canary'"),
        ("0", INVALID, "'0' is neither a positive integer nor a label"),
        ("../1", INVALID, "'../1' is neither"),
        ("\n" * 1000, INVALID, "…"),
    ],
)
def test_a_version_that_is_not_there(client: PredictionClient, version: str, code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(PredictionError) as caught:
        client.predict_sentiment("Fine.", version=version)
    assert caught.value.code is code
    assert words in caught.value.message
    assert len(caught.value.message) < 400


def test_no_instances(server: ServerProcess) -> None:
    for method, request, field in (
        ("PredictSentiment", pb.PredictSentimentRequest(), "reviews"),
        ("PredictTopic", pb.PredictTopicRequest(top_k=5), "newswires"),
        ("PredictHousePrice", pb.PredictHousePriceRequest(version="1"), "houses"),
    ):
        assert raw_error(server, method, request.SerializeToString()) == (
            INVALID,
            f"{field}: at least one is needed, got none",
        )


def test_a_text_too_long(client: PredictionClient) -> None:
    assert len(client.predict_sentiment("good " * 8192)) == 1
    with pytest.raises(PredictionError, match=r"newswires\[1\]: 8193 words; this server takes 8192") as caught:
        client.predict_topic(["short", "good " * 8193])
    assert caught.value.code is INVALID


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(client: PredictionClient, value: float) -> None:
    with pytest.raises(PredictionError, match=r"houses\[1\].tax_rate: expected a finite number") as caught:
        client.predict_house_price([House(rooms=6), House(rooms=6, tax_rate=value)])
    assert caught.value.code is INVALID


def test_a_number_beyond_float32(client: PredictionClient) -> None:
    with pytest.raises(PredictionError, match=r"houses\[0\].rooms: 1e\+39 is beyond the range of float32"):
        client.predict_house_price(House(rooms=1e39))


def test_numbers_of_which_no_price_comes(client: PredictionClient) -> None:
    with pytest.raises(PredictionError, match=r"houses\[1\]: its features are so far from any house's") as caught:
        client.predict_house_price([House(rooms=6), House(**dict.fromkeys(FEATURES, 3e38))])
    assert caught.value.code is INVALID


def test_text_that_is_not_utf8(server: ServerProcess) -> None:
    code, message = raw_error(server, "PredictSentiment", b"\x0a\x02\xff\xfe")
    assert code is INVALID
    assert "prediction.v1.PredictSentimentRequest" in message
    assert "UTF-8" in message


def test_garbage_instead_of_a_message(server: ServerProcess) -> None:
    assert raw_error(server, "PredictHousePrice", b"\xff\xff\xff")[0] is INVALID


def test_an_oversized_message(server: ServerProcess) -> None:
    request = pb.PredictSentimentRequest(reviews=["x" * (5 * 2**20)]).SerializeToString()
    code, message = raw_error(server, "PredictSentiment", request)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in message


def test_a_method_that_is_not_there(server: ServerProcess) -> None:
    code, message = raw_error(server, "PredictWeather", b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "/prediction.v1.PredictionService/PredictWeather" in message


def test_a_request_that_could_never_fit(client: PredictionClient) -> None:
    with pytest.raises(PredictionError, match="8193 instances in one request; this server takes 8192") as caught:
        client.predict_sentiment(["x"] * 8193)
    assert caught.value.code is INVALID


def test_a_request_larger_than_a_batch_is_answered(client: PredictionClient) -> None:
    texts = ["A wonderful film."] * 600 + ["Dreadful, a waste of time."]
    answers = client.predict_sentiment(texts)
    assert len(answers) == 601
    assert len({answer.positive_probability for answer in answers[:600]}) <= 2  # batch sizes may differ in the last bit
    assert answers[0].positive_probability > 0.5 > answers[600].positive_probability


def test_empty_texts_and_absent_features_are_answered(client: PredictionClient) -> None:
    empty, full = client.predict_sentiment(["", "A wonderful film."])
    assert empty.known_words == 0
    assert full.known_words == 1
    assert client.predict_sentiment("").predictions[0] == empty
    assert client.predict_topic(" \t\n")[0].known_words == 0
    [price] = client.predict_house_price(House())
    assert len(price.imputed) == 13
    assert price.price_usd > 0


def test_a_neighbour_makes_no_difference(client: PredictionClient) -> None:
    alone = client.predict_sentiment("An awful plot, but good actors.")[0].positive_probability
    texts = ["\0" * 100, "", " " * 100_000, "good " * 8000, "\x85\xa0\r\x0b", "𝔘𝔫𝔦 ﬁ İ ẞ"]
    for text in texts:
        beside = client.predict_sentiment([text, "An awful plot, but good actors.", text])
        assert beside[1].positive_probability == pytest.approx(alone, abs=1e-6)


# What keeps a server from starting.


def refusal(*flags: str, models: Path | None = None, grpc: str = "127.0.0.1:0") -> tuple[int, str]:
    with ServerProcess(*flags, models=models, grpc=grpc) as server:
        return server.exit_code(), server.output


def test_a_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        code, output = refusal(grpc=address)
        assert code == 1
        assert output.splitlines()[-1] == f"triptych: can't listen on {address}: address already in use"
        code, output = refusal("--metrics-address", address)
        assert code == 1
        assert output.splitlines()[-1] == f"triptych: can't listen on {address}: address already in use"


def test_a_busy_port_that_another_server_of_ours_has(server: ServerProcess) -> None:
    code, output = refusal(grpc=f"127.0.0.1:{server.port}")
    assert code == 1
    assert "address already in use" in output


def test_a_missing_folder(tmp_path: Path) -> None:
    code, output = refusal(models=tmp_path / "nowhere")
    assert code == 1
    assert f"triptych: models folder {tmp_path / 'nowhere'} does not exist" in output


def test_an_empty_folder(tmp_path: Path) -> None:
    code, output = refusal(models=tmp_path)
    assert code == 1
    assert "expected <name>/<version>/model.json" in output


def test_a_gpu_that_is_not_there() -> None:
    code, output = refusal("--device", "cuda:31")
    assert code == 1
    assert "triptych: device cuda:31 can't be had: " in output


def test_a_setting_that_is_none() -> None:
    code, output = refusal("--max-batch-rows", "many")
    assert code == 2
    assert "command line: max_batch_rows='many': Expected a whole number" in output


def damage(models: Path) -> None:
    """Change one byte of the only version of one model."""
    file = models / "topic" / "1" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_model_is_not_served_and_the_others_are(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(first_versions(), models)
    damage(models)
    with ServerProcess(models=models) as server:
        server.wait_ready()
        [refused] = [line for line in server.lines if line["event"] == "model refused"]
        assert refused["model"] == "topic"
        assert "SHA-256" in refused["reason"]
        with PredictionClient(server.address) as client:
            assert client.predict_sentiment("A wonderful film.")[0].positive_probability > 0.5
            with pytest.raises(PredictionError, match=r"model topic is not loaded .*SHA-256") as caught:
                client.predict_topic("Crude oil fell.")
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert not client.is_ready()
            assert not client.is_ready("topic")
            assert client.is_ready("sentiment")
        server.terminate()
        assert server.exit_code() == 0


def test_strict_load_exits_instead(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(first_versions(), models)
    damage(models)
    code, output = refusal("--strict-load", models=models)
    assert code == 1
    assert "triptych: --strict-load: topic version 1: the SHA-256 of model.onnx" in output


def test_a_folder_of_damaged_models_only(tmp_path: Path) -> None:
    folder = tmp_path / "sentiment" / "1"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"format": 2}))
    code, output = refusal(models=tmp_path)
    assert code == 1
    assert "triptych: no model could be loaded: sentiment version 1: model.json: " in output


def test_an_interrupt_stops_as_a_termination_does() -> None:
    with ServerProcess() as server:
        server.wait_ready()
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0
        assert "Traceback" not in server.output
