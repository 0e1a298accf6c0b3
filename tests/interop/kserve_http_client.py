"""What an application does with KServe's REST client; run as a process: address, CA file or "-", kind."""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

FEATURES = np.array([[0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]], np.float32)


async def infer(address: str, ca: str) -> None:
    url = f"{'http' if ca == '-' else 'https'}://{address}"
    client = InferenceRESTClient(config=RESTConfig(protocol="v2", verify=ca if ca != "-" else True))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "topic")
    prices = []
    for binary in (True, False):
        tensor = InferInput("features", list(FEATURES.shape), "FP32")
        tensor.set_data_from_numpy(FEATURES, binary_data=binary)
        request = InferRequest("house_price", [tensor], request_id="me")
        response = await client.infer(url, request, model_name="house_price")
        assert response.id == "me"
        prices.append(float(response.outputs[0].as_numpy()[0, 0]))
    assert np.isclose(prices[0], prices[1], rtol=1e-6)
    text = InferInput("text", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"a wonderful film"], [b"dreadful"]], np.object_), binary_data=False)
    response = await client.infer(url, InferRequest("sentiment", [text]), model_name="sentiment")
    found = {output.name: output.as_numpy() for output in response.outputs}
    assert found["probability"][0, 0] > 0.5 > found["probability"][1, 0]
    status = None
    try:
        await client.infer(url, InferRequest("none", [text]), model_name="none")
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
    assert status == 404
    await client.close()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[3]](sys.argv[1], sys.argv[2]))
    print("done")
