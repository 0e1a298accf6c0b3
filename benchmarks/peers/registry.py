"""Who is measured, and how each one is asked: the protocol, where to, with which bytes, and what its reply says.

gRPC peers speak the Open Inference Protocol, HTTP peers take JSON by POST. A question is the same for all: one
house, or one text; the answer is a price in thousand dollars, or a label.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.payloads import SERVICE, house_request, review
from benchmarks.peers import oip
from protos.prediction.v1 import prediction_pb2 as pb

GRPC, HTTP = "gRPC", "HTTP/1.1 JSON"

HOUSE, SENTIMENT = "house_price", "sentiment"

OURS, FLOOR = "triptych", "floor"

OLD_FLOOR = "floor-1.75"
"""The floor on the fastest grpcio there is, which is not the newest: an environment of its own, as a peer has."""
FLOORS = (FLOOR, OLD_FLOOR)

_JSON_SLACK = 12
"""Bytes by which a price in JSON may be longer or shorter: a batch's size changes its last digit."""


@dataclass(frozen=True)
class Ask:
    """How one model is asked."""

    path: str
    body: Callable[[Any], bytes]
    """Of one house, 13 numbers, or of one text."""
    answer: Callable[[bytes], float | str]
    """The price or label in a reply; raises where there is none."""
    slack: int = 0
    """Bytes by which the lengths of replies to one question may differ."""


@dataclass(frozen=True)
class Peer:
    """A server that others wrote."""

    name: str
    title: str
    package: str
    """Whose version the requirements pin."""
    protocol: str
    asks: dict[str, Ask]
    options: tuple[str, ...] = ()
    """Further ones for its `serve.py`."""
    shares: str = ""
    """Whose folder it is another setting of."""

    @property
    def folder(self) -> str:
        """Where its `serve.py` and requirements are."""
        return self.shares or self.name


def _oip(*, raw: bool = True, text_shape: list[int] | None = None) -> dict[str, Ask]:
    body = partial(oip.sentiment, raw=raw, shape=text_shape or [1])
    return {
        HOUSE: Ask(oip.METHOD, partial(oip.house, raw=raw), oip.price),
        SENTIMENT: Ask(oip.METHOD, body, oip.label),
    }


def _json(*, listed: bool = False) -> dict[str, Ask]:
    """Where both go by their names; `listed`: each is one of a list, and so is its reply."""

    def body(field: str, value: Any) -> bytes:
        return json.dumps({field: [value] if listed else value}).encode()

    def answer(field: str, reply: bytes) -> Any:
        found = json.loads(reply)
        [one] = found if listed else [found]
        return one[field]

    return {
        HOUSE: Ask("/house_price", partial(body, "features"), partial(answer, "price"), _JSON_SLACK),
        SENTIMENT: Ask("/sentiment", partial(body, "text"), partial(answer, "label")),
    }


def _own_price(reply: bytes) -> float:
    [prediction] = pb.PredictHousePriceResponse.FromString(reply).predictions
    return prediction.price_usd / 1000


def _own_label(reply: bytes) -> str:
    [prediction] = pb.PredictSentimentResponse.FromString(reply).predictions
    return pb.Sentiment.Name(prediction.sentiment).removeprefix("SENTIMENT_").lower()


OWN = {
    HOUSE: Ask(SERVICE + "PredictHousePrice", lambda row: house_request([row]), _own_price),
    SENTIMENT: Ask(SERVICE + "PredictSentiment", review, _own_label),
}
"""How this server is asked: its typed API."""

PEERS = (
    Peer("triton", "Triton", "nvidia-pytriton", GRPC, _oip(text_shape=[1, 1])),
    Peer("mosec", "mosec", "mosec", HTTP, _json()),
    Peer("mosec16", "mosec, 16 rows", "mosec", HTTP, _json(), options=("--rows", "16"), shares="mosec"),
    Peer("kserve", "KServe SDK", "kserve", GRPC, _oip()),
    # Typed contents: 312 µs of CPU time a house where raw ones are 359; for KServe's server it makes no difference.
    Peer("mlserver", "MLServer", "mlserver", GRPC, _oip(raw=False)),
    Peer("bentoml", "BentoML", "bentoml", HTTP, _json(listed=True)),
    Peer("litserve", "LitServe", "litserve", HTTP, _json()),
    Peer("ray", "Ray Serve", "ray", HTTP, _json()),
)

BY_NAME = {peer.name: peer for peer in PEERS}
