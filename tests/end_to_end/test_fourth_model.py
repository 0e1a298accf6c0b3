"""A model that the server knows nothing of: packaged, put beside the others as it runs, and asked by gRPC and HTTP."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton

from tests import digits
from tests.end_to_end.server import ServerProcess
from tests.serving.packages import copy

IMAGES = 200
PATIENCE = 60.0
ACCURACY = 0.75


def images(data: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    with np.load(data / "mnist.npz") as file:
        return file["x_test"][:IMAGES], file["y_test"][:IMAGES]


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except urllib.error.HTTPError:
        return False


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, saving
def test_a_folder_is_all_that_it_takes(data: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    copy(models, "house_price")
    pixels, labels = images(data)
    network = digits.package(data, tmp_path / "network", tmp_path / "packaged")
    expected = network.predict(pixels, verbose=0)
    with ServerProcess("--models", str(models), "--model-poll-seconds", "0.1") as server:
        server.wait_ready()
        (models / "digits").mkdir()
        (tmp_path / "packaged" / "digits" / "1").rename(models / "digits" / "1")
        end = time.monotonic() + PATIENCE
        while not ready(f"{server.http}/v2/models/digits/ready"):
            assert time.monotonic() < end
            time.sleep(0.05)

        with triton.InferenceServerClient(server.address) as client:
            tensor = triton.InferInput("pixels", list(pixels.shape), "UINT8")
            tensor.set_data_from_numpy(pixels)
            over_grpc = client.infer("digits", [tensor]).as_numpy("probability")
            best = triton.InferRequestedOutput("probability", class_count=1)
            classes = client.infer("digits", [tensor], outputs=[best]).as_numpy("probability")
        assert over_grpc.shape == (IMAGES, 10)
        assert over_grpc == pytest.approx(expected, abs=1e-5), "Keras's"
        assert (over_grpc.argmax(axis=1) == labels).mean() >= ACCURACY
        assert [int(text.decode().split(":")[2]) for [text] in classes] == over_grpc.argmax(axis=1).tolist()

        body = {
            "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.tolist()}]
        }
        [output] = post(f"{server.http}/v2/models/digits/infer", body)["outputs"]
        over_http = np.array(output["data"], np.float32).reshape(output["shape"])
        assert np.array_equal(over_http, over_grpc), "to the bit"
