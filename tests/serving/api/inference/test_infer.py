"""ModelInfer with the shipped models: what is answered, and how it is counted."""

import math
import time

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from protos.prediction.v1 import prediction_pb2
from serving.api.inference import parameters
from serving.api.prediction import SERVICE as TYPED_SERVICE
from serving.status import Code, StatusError
from serving.telemetry.metrics import UNKNOWN
from tests.serving.api.calls import call
from tests.serving.api.inference.desk import FEATURES, InferDesk, house, outputs, request, texts
from tests.serving.packages import value

pytestmark = pytest.mark.asyncio


async def typed_prices(desk: InferDesk, rooms: list[float]) -> list[float]:
    """What the typed API answers."""
    names = [field.name for field in prediction_pb2.House.DESCRIPTOR.fields]
    houses = [prediction_pb2.House(**dict(zip(names, FEATURES, strict=True)) | {"rooms": number}) for number in rooms]
    made = call(
        desk.typed,
        f"/{TYPED_SERVICE}/PredictHousePrice",
        prediction_pb2.PredictHousePriceRequest(houses=houses).SerializeToString(),
    )
    response = prediction_pb2.PredictHousePriceResponse.FromString(await made.message())
    return [prediction.price_usd for prediction in response.predictions]


@pytest.mark.parametrize("raw", [True, False])
async def test_houses_are_answered_as_the_typed_api_does(desk: InferDesk, raw: bool) -> None:
    expected = await typed_prices(desk, [4 + row / 8 for row in range(20)])
    for _ in range(2):  # the second time its head is known
        response = await desk.answer(house(20, raw=raw, id="seven"))
        assert (response.model_name, response.model_version, response.id) == ("house_price", "1", "seven")
        assert bool(response.raw_output_contents) is raw
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in response.outputs] == [
            ("price", "FP32", [20, 1])
        ]
        assert outputs(response)["price"][:, 0] * 1000 == pytest.approx(expected, rel=1e-6)
    assert desk.count(Code.OK) == 2
    assert value(desk.metrics, "triptych_rejected_total", model="house_price", reason="invalid") == 0


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("column", [True, False])
async def test_texts_are_answered_in_either_shape_and_normalised(desk: InferDesk, raw: bool, column: bool) -> None:
    response = await desk.answer(texts("sentiment", ["A WONDERFUL, moving film!", ""], raw=raw, column=column))
    plain = await desk.answer(texts("sentiment", ["a wonderful moving film", " "]))
    assert [list(tensor.shape) for tensor in response.outputs] == [[2, 1], [2]]
    found, expected = outputs(response), outputs(plain)
    assert found["probability"].tolist() == expected["probability"].tolist()
    assert found["probability"][0, 0] > 0.5
    assert found["known_words"].tolist() == [1, 0]
    assert value(desk.metrics, "triptych_known_words_ratio_count", model="sentiment") == 4


async def test_outputs_come_as_they_were_asked_for(desk: InferDesk) -> None:
    made = texts("topic", ["wheat and corn"])
    for name in ("known_words", "probability"):
        made.outputs.add(name=name)
    assert [tensor.name for tensor in (await desk.answer(made)).outputs] == ["known_words", "probability"]
    del made.outputs[1]
    response = await desk.answer(made)
    assert [tensor.name for tensor in response.outputs] == ["known_words"]
    assert len(response.raw_output_contents) == 1


async def test_nan_means_absent(desk: InferDesk) -> None:
    data = np.full((3, 13), math.nan, np.float32)
    names = [field.name for field in prediction_pb2.House.DESCRIPTOR.fields]
    assert len(names) == 13
    for raw in (True, True, False):
        found = outputs(await desk.answer(request("house_price", {"features": data}, raw=raw)))["price"]
        assert np.isfinite(found).all()
    empty = prediction_pb2.PredictHousePriceRequest(houses=[prediction_pb2.House()]).SerializeToString()
    made = call(desk.typed, f"/{TYPED_SERVICE}/PredictHousePrice", empty)
    [typed] = prediction_pb2.PredictHousePriceResponse.FromString(await made.message()).predictions
    assert float(found[0, 0]) * 1000 == pytest.approx(typed.price_usd)


@pytest.mark.parametrize("version", ["", "1"])
async def test_the_version_that_answered_is_told(desk: InferDesk, version: str) -> None:
    for _ in range(2):
        assert (await desk.answer(house(model_version=version))).model_version == "1"


async def test_calls_of_one_turn_share_a_batch(desk: InferDesk) -> None:
    calls = [desk.infer(house(1)) for _ in range(4)]
    for made in calls:
        await made.message()
    assert desk.batches() == 1
    assert desk.rows() == 4


async def test_a_cancelled_call_is_counted_and_never_answered(desk: InferDesk) -> None:
    for _ in range(2):
        made = desk.infer(house())
        made.cancel()
        await desk.answer(house())
        assert made.answer is None
    assert desk.count(Code.CANCELLED) == 2


async def test_the_earlier_of_deadline_and_timeout_holds(desk: InferDesk) -> None:
    hasty = house()
    hasty.parameters["timeout"].int64_param = 1  # microsecond
    for _ in range(2):
        made = desk.infer(hasty)
        with pytest.raises(StatusError) as caught:
            await made.message()
        assert caught.value.code is Code.DEADLINE_EXCEEDED
    late = desk.infer(house(), deadline=time.monotonic() - 1)
    assert late.error.code is Code.DEADLINE_EXCEEDED
    easy = house()
    easy.parameters["timeout"].int64_param = 60_000_000
    for _ in range(2):
        await desk.answer(easy)
        await desk.answer(easy, deadline=time.monotonic() + 60)


async def test_priorities_decide_who_goes_first(desk: InferDesk) -> None:
    """The batch is eight rows: of nine calls one waits, and that is not the last one if it is of high priority."""
    for _ in range(2):
        order: list[int] = []

        def asked(level: int, place: int, order: list[int] = order) -> None:
            made = house(5)
            made.parameters["priority"].uint64_param = level
            call = desk.infer(made)
            reply = call.reply

            def noted(message: bytes) -> None:
                order.append(place)
                reply(message)

            call.reply = noted  # type: ignore[method-assign]

        for place, level in enumerate((3, 0, 2, 1, 9)):
            asked(level, place)
        await desk.answer(house(5, parameters={"priority": pb.InferParameter(int64_param=3)}))
        assert order == [3, 1, 2, 4, 0]


async def test_the_default_level_is_that_of_the_typed_api() -> None:
    assert [parameters.rank(level) for level in (0, 1, 2, 3, 4, 2**64 - 1)] == [0, -1, 0, 1, 0, 0]


async def test_nothing_is_taken_while_draining(desk: InferDesk) -> None:
    await desk.answer(house())
    desk.backend.draining = True
    assert desk.error(house()).code is Code.UNAVAILABLE
    assert desk.error(texts("topic", ["x"])).code is Code.UNAVAILABLE
    assert desk.rejected() == {"draining": 1}


async def test_what_a_client_made_up_is_no_label(desk: InferDesk) -> None:
    for name in ("made-up", "", "x" * 10_000):
        made = house()
        made.model_name = name
        error = desk.error(made)
        assert error.code is Code.NOT_FOUND
        assert "house_price, sentiment, topic" in error.message
        assert len(error.message) < 300
    assert desk.count(Code.NOT_FOUND, UNKNOWN, UNKNOWN) == 3
    desk.error(b"\xff\xff\xff\xff")
    assert desk.count(Code.INVALID_ARGUMENT, UNKNOWN, UNKNOWN) == 1
    desk.error(house(model_version="made-up"))
    assert desk.count(Code.NOT_FOUND, "house_price", UNKNOWN) == 1
    labels = {
        label
        for metric in desk.metrics.registry.collect()
        for sample in metric.samples
        for label in sample.labels.values()
    }
    assert "made-up" not in labels
