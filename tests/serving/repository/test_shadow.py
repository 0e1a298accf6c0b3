"""Shadow mode: a candidate computes a share of the requests, its answers are compared, and nobody sees one."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.engine.batcher import Limits
from serving.repository.shadow import Shadow
from serving.telemetry.metrics import SHADOW_OUTCOMES, Metrics
from tests.serving.api.desk import HOUSE, Desk
from tests.serving.packages import SMALL, change_graph, controlled, copy, edit, new_models, value

pytestmark = pytest.mark.asyncio

PRICE = "house_price"
HOUSES = pb.PredictHousePriceRequest(houses=[HOUSE, HOUSE])
REVIEWS = pb.PredictSentimentRequest(reviews=["a masterpiece, wonderful", "awful, boring, a waste of time"])


class Rehearsal:
    """A model, its candidate, and a desk that asks."""

    def __init__(self, folder: Path, fraction: float, model: str = PRICE, limits: Limits = SMALL) -> None:
        (folder / model / "serving.toml").write_text(f"[shadow]\ncandidate = 2\nfraction = {fraction}\n")
        self.metrics = Metrics()
        self.models = new_models(folder, self.metrics, limits)
        self.control = controlled(self.models, folder, self.metrics)
        self.control.start()
        self.desk = Desk(self.models, self.metrics)
        self.model = model

    async def ask(self, method: str = "PredictHousePrice", request: object = HOUSES) -> bytes:
        assert isinstance(request, pb.PredictHousePriceRequest | pb.PredictSentimentRequest)
        return await self.desk.call(method, request).message()

    async def rows(self) -> dict[str, float]:
        """Rows by outcome, once nothing runs any more."""
        await self.models.close()
        labels = {"model": self.model, "version": "1", "candidate": "2"}
        found = {o: value(self.metrics, "triptych_shadow_rows_total", **labels, outcome=o) for o in SHADOW_OUTCOMES}
        return {outcome: count for outcome, count in found.items() if count}

    def differences(self) -> float:
        """Of all rows, added up."""
        return value(self.metrics, "triptych_shadow_difference_sum", model=self.model, version="1", candidate="2") or 0


def raise_prices(folder: Path) -> None:
    """By a thousand dollars, each."""

    def change(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "before"
        graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.np.float32(1.0), "raise"))
        graph.node.append(onnx.helper.make_node("Add", ["before", "raise"], ["price"], name="raised"))

    change_graph(folder, change)
    edit(folder, lambda m: m["golden"]["outputs"].update(price=[[p + 1] for [p] in m["golden"]["outputs"]["price"]]))


@pytest.fixture
def same(tmp_path: Path) -> Path:
    copy(tmp_path)
    copy(tmp_path, version=2)
    return tmp_path


@pytest.fixture
def dearer(same: Path) -> Path:
    raise_prices(same / PRICE / "2")
    return same


async def test_a_candidate_that_is_the_same_agrees(same: Path) -> None:
    rehearsal = Rehearsal(same, 1.0)
    for _ in range(3):
        await rehearsal.ask()
    assert await rehearsal.rows() == {"agreed": 6}
    assert rehearsal.differences() == 0


async def test_one_that_differs_is_counted_and_its_answers_are_never_given(dearer: Path) -> None:
    rehearsal = Rehearsal(dearer, 1.0)
    answers = [pb.PredictHousePriceResponse.FromString(await rehearsal.ask()) for _ in range(3)]
    assert {answer.version for answer in answers} == {"1"}
    assert len({prediction.price_usd for answer in answers for prediction in answer.predictions}) == 1
    assert await rehearsal.rows() == {"differed": 6}
    assert rehearsal.differences() == pytest.approx(6.0, rel=1e-5)
    assert rehearsal.desk.all_requests() == 3, "copies are nobody's requests"


@pytest.mark.parametrize("fraction", [0.5, 0.1])
async def test_a_share_of_the_requests_is_copied(same: Path, fraction: float) -> None:
    rehearsal = Rehearsal(same, fraction)
    for _ in range(400):
        await rehearsal.ask()
    rows = await rehearsal.rows()
    assert rows["agreed"] / 800 == pytest.approx(fraction, rel=0.2)


async def test_classes_are_compared_by_what_is_decided(tmp_path: Path) -> None:
    """A candidate whose probabilities are a little off decides the same."""
    copy(tmp_path, "sentiment")
    folder = copy(tmp_path, "sentiment", 2)

    def change(graph: onnx.GraphProto) -> None:
        [last] = [node for node in graph.node if "probability" in node.output]
        last.output[0] = "before"
        graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.np.float32(1e-3), "little"))
        graph.node.append(onnx.helper.make_node("Add", ["before", "little"], ["probability"], name="off"))

    change_graph(folder, change)
    outputs = ["golden", "outputs"]
    edit(
        folder,
        lambda m: m[outputs[0]][outputs[1]].update(
            probability=[[p + 1e-3] for [p] in m["golden"]["outputs"]["probability"]]
        ),
    )
    rehearsal = Rehearsal(tmp_path, 1.0, "sentiment")
    await rehearsal.ask("PredictSentiment", REVIEWS)
    assert await rehearsal.rows() == {"agreed": 2}
    assert rehearsal.differences() == pytest.approx(2e-3, rel=1e-2)


async def test_copies_are_dropped_where_the_candidate_falls_behind(same: Path) -> None:
    limits = Limits(max_batch_rows=4, max_queue_rows=64)
    rehearsal = Rehearsal(same, 1.0, limits=limits)
    calls = [rehearsal.desk.call("PredictHousePrice", HOUSES) for _ in range(16)]
    await asyncio.gather(*[call.message() for call in calls])
    rows = await rehearsal.rows()
    assert rows.keys() <= {"agreed", "dropped"}
    assert sum(rows.values()) == 32


async def test_a_candidate_that_fails_is_counted(same: Path) -> None:
    rehearsal = Rehearsal(same, 1.0)
    rehearsal.models.served[PRICE][2].engine._instances[0].runner = None
    await rehearsal.ask()
    assert await rehearsal.rows() == {"failed": 2}


async def test_infinities_are_compared_without_a_warning(same: Path) -> None:
    rehearsal = Rehearsal(same, 1.0)
    shadow = rehearsal.models.served[PRICE][1].shadow
    assert isinstance(shadow, Shadow)
    shadow._compare([np.array([[np.inf], [1.0]])], [np.array([[np.inf], [2.0]])])
    assert await rehearsal.rows() == {"agreed": 1, "differed": 1}


def other_inputs(folder: Path) -> None:
    edit(folder, lambda m: m.update(labels=["dear", "cheap"]))


@pytest.mark.parametrize("change", [other_inputs])
async def test_what_can_not_be_compared_is_not_and_said(
    same: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    change(same / PRICE / "2")
    rehearsal = Rehearsal(same, 1.0)
    await rehearsal.ask()
    assert await rehearsal.rows() == {}
    [record] = [record for record in caplog.records if record.message == "shadow impossible"]
    assert record.levelno == logging.ERROR
    assert "labels" in vars(record)["reason"]


async def test_it_ends_when_the_policy_says_so(same: Path) -> None:
    rehearsal = Rehearsal(same, 1.0)
    await rehearsal.ask()
    (same / PRICE / "serving.toml").write_text("versions = [1]\n")
    for _ in range(2):
        rehearsal.control.look()
    assert rehearsal.models.resolve(PRICE, "").shadow is None
    await rehearsal.ask()
    assert await rehearsal.rows() == {"agreed": 2}
