"""What is sent: real reviews and houses where the data is there, else texts of like length."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets import DataMissing, raw_texts
from benchmarks.servers import REPOSITORY
from protos.prediction.v1 import prediction_pb2 as pb

SERVICE = f"/{pb.DESCRIPTOR.services_by_name['PredictionService'].full_name}/"

REVIEW_WORDS = 230
"""Mean length of a review in the test set."""

SHORT_WORDS = 30
LONG_WORDS = 8_000
BLANKS = 1_000_000

_MANY = 200


@dataclass(frozen=True)
class Payload:
    """Requests of one kind."""

    model: str
    method: str
    messages: list[bytes]
    what: str


def versions(model: str, models: Path = REPOSITORY / "models") -> list[int]:
    """The versions of `model` in the folder `models`, lowest first; none where it has none."""
    return sorted(int(path.name) for path in (models / model).glob("*") if path.name.isdecimal())


def manifest(model: str, version: int | None = None, models: Path = REPOSITORY / "models") -> dict[str, Any]:
    """The manifest of `version` of `model` in the folder `models`; None: of the newest."""
    folder = models / model / str(version or versions(model, models)[-1])
    found: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
    return found


def houses() -> Payload:
    """One suburb a request: the package's own examples."""
    rows = [row for row in manifest("house_price")["golden"]["inputs"]["features"] if None not in row]
    return Payload(
        "house_price", SERVICE + "PredictHousePrice", [house_request([row]) for row in rows], "house price, 1 row"
    )


def house_request(rows: Iterable[Sequence[float]], version: str = "") -> bytes:
    """A request for these suburbs."""
    names = [field.name for field in pb.House.DESCRIPTOR.fields]
    houses = [pb.House(**dict(zip(names, row, strict=True))) for row in rows]
    return pb.PredictHousePriceRequest(houses=houses, version=version).SerializeToString()


def reviews(data: Path | None) -> Payload:
    """One review of about the usual length a request."""
    texts, what = usual_reviews(data)
    return Payload(
        "sentiment", SERVICE + "PredictSentiment", [review(text) for text in texts], f"sentiment, 1 {what} review"
    )


def review(text: str) -> bytes:
    """A request for one review."""
    return pb.PredictSentimentRequest(reviews=[text]).SerializeToString()


def usual_reviews(data: Path | None) -> tuple[list[str], str]:
    """Reviews of about the mean length, and whether they are real or synthetic."""
    try:
        if data is None:
            raise DataMissing
        real = [sample.text for sample in raw_texts(data, "imdb")]
    except DataMissing:
        return _synthetic(), "synthetic"
    near = sorted(real, key=lambda text: abs(len(text.split()) - REVIEW_WORDS))
    return near[:_MANY], "real"


def short_reviews(texts: Iterable[str]) -> list[str]:
    """The beginnings of reviews."""
    return [" ".join(text.split()[:SHORT_WORDS]) for text in texts]


def long_review(texts: Sequence[str]) -> str:
    """As many words of reviews as a server takes in one text, near enough."""
    words: list[str] = []
    while len(words) < LONG_WORDS:
        # Marks without letters would become blanks, and not count as words.
        words += [word for text in texts for word in text.split() if word.isalpha()]
    return " ".join(words[:LONG_WORDS])


def _synthetic() -> list[str]:
    """Words of the package's golden reviews, at random."""
    words = [word for text in manifest("sentiment")["golden"]["inputs"]["text"] for word in text.split()]
    chance = random.Random(0)
    return [" ".join(chance.choices(words, k=REVIEW_WORDS)) for _ in range(_MANY)]
