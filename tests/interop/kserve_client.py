"""What an application does with KServe's gRPC client; run as a process: address, CA file or "-", kind."""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

FEATURES = np.array([[0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]], np.float32)


def connect(address: str, ca: str) -> InferenceGRPCClient:
    return InferenceGRPCClient(address, **({} if ca == "-" else {"use_ssl": True, "root_certificates": ca}))


async def infer(address: str, ca: str) -> None:
    async with connect(address, ca) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("topic")
        assert not await client.is_model_ready("none")
        prices = []
        for raw in (True, False):
            tensor = InferInput("features", FEATURES.shape, "FP32")
            tensor.set_data_from_numpy(FEATURES, binary_data=raw)
            if not raw:
                tensor = InferInput("features", FEATURES.shape, "FP32", FEATURES.ravel().tolist())
            response = await client.infer(InferRequest("house_price", [tensor], request_id="me"))
            assert response.id == "me"
            prices.append(float(response.outputs[0].as_numpy()[0, 0]))
        assert prices[0] == prices[1]
        text = InferInput("text", [2, 1], "BYTES")
        text.set_data_from_numpy(np.array([[b"a wonderful film"], [b"dreadful"]], np.object_))
        response = await client.infer(InferRequest("sentiment", [text]))
        found = {output.name: output.as_numpy() for output in response.outputs}
        assert found["probability"][0, 0] > 0.5 > found["probability"][1, 0]
        code = None
        try:
            await client.infer(InferRequest("none", [text]))
        except grpc.RpcError as error:
            code = error.code()
        assert code is grpc.StatusCode.NOT_FOUND


async def models(address: str, ca: str) -> None:
    """For a server whose models are controlled by its clients."""
    async with connect(address, ca) as client:
        stub = client._client_stub
        unloaded = await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="topic"))
        assert (unloaded.model_name, unloaded.isUnloaded) == ("topic", True)
        assert not await client.is_model_ready("topic")
        loaded = await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="topic"))
        assert (loaded.model_name, loaded.isLoaded) == ("topic", True)
        assert await client.is_model_ready("topic")


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[3]](sys.argv[1], sys.argv[2]))
    print("done")
