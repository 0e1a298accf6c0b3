"""What each typed RPC asks of its model: instances in, rows of tensors out to predictions."""

import math
import struct
from collections.abc import Iterable, MutableSequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from google.protobuf.message import Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.engine.request import Outputs, Rows
from serving.package.manifest import InputSpec, Manifest, OutputSpec
from serving.package.text import TextTooLongError
from serving.repository.version import Version
from serving.status import invalid

DEFAULT_TOP_K = 3

MAX_SCORES = 25_000
"""Topic scores of one answer: writing them holds up every other call."""

_FEATURES = tuple(field.name for field in pb.House.DESCRIPTOR.fields)
_HOUSE = struct.Struct(f"<{len(_FEATURES)}f")
_THOUSAND = 1000.0

# Small messages of a fixed form, written and read without their classes (Protocol Buffers, "Encoding"): a tag
# is the field's number and wire type, 1 for 8 bytes, 2 for a length and as many bytes, 5 for 4 bytes.
_HOUSE_DOUBLES = struct.Struct("<" + "xd" * len(_FEATURES))
_HOUSE_TAGS = bytes(number << 3 | 1 for number in range(1, len(_FEATURES) + 1))
_HOUSE_HEAD = bytes((1 << 3 | 2, _HOUSE_DOUBLES.size))
_HOUSE_BYTES = len(_HOUSE_HEAD) + _HOUSE_DOUBLES.size

_PRICE = struct.Struct("<3sd")
_PRICE_HEAD = bytes((1 << 3 | 2, 9, 1 << 3 | 1))

_SENTIMENT = struct.Struct("<3sBBfBf")
_SENTIMENT_HEAD = bytes((1 << 3 | 2, 12, 1 << 3))
_FLOAT_2 = 2 << 3 | 5
_FLOAT_3 = 3 << 3 | 5


class Task(Protocol):
    """One typed RPC."""

    model: ClassVar[str]
    method: ClassVar[str]
    request: ClassVar[type[Message]]

    def problem(self, manifest: Manifest) -> str | None:
        """Why a package can't be served by this RPC, or None."""

    def read(self, message: bytes) -> Any:
        """The request that `message` holds: one with a `version`, that `encode` and `respond` take.

        Raises:
            DecodeError: it can't be read.
        """

    # The rest makes it a `Form` of exchanges, whose answers are serialised responses.
    def encode(self, request: Any, version: Version, max_words: int) -> tuple[list[Rows], int, int]: ...

    def respond(self, request: Any, version: Version, outputs: Outputs) -> bytes: ...


class SentimentTask:
    """PredictSentiment: is a review positive?"""

    model: ClassVar[str] = "sentiment"
    method: ClassVar[str] = "PredictSentiment"
    request: ClassVar[type[Message]] = pb.PredictSentimentRequest

    def problem(self, manifest: Manifest) -> str | None:
        """It must map one text to the probability of the second of two labels."""
        if tuple(manifest.labels) != ("negative", "positive"):
            return f"labels must be negative and positive, got {list(manifest.labels)}"
        return _signature_problem(manifest, ("BYTES", (-1,)), {"probability": (-1, 1), "known_words": (-1,)})

    def read(self, message: bytes) -> pb.PredictSentimentRequest:
        return pb.PredictSentimentRequest.FromString(message)

    def encode(
        self, request: pb.PredictSentimentRequest, version: Version, max_words: int
    ) -> tuple[list[Rows], int, int]:
        """Normalised reviews."""
        return _encode_texts("reviews", request.reviews, version, max_words)

    def respond(self, request: pb.PredictSentimentRequest, version: Version, outputs: Outputs) -> bytes:
        """Positive from one half."""
        positive = outputs[version.outputs["probability"]][:, 0].tolist()
        known = outputs[version.outputs["known_words"]].tolist()
        _observe_known_words(version, known)
        pack = _SENTIMENT.pack
        predictions = [
            pack(_SENTIMENT_HEAD, 2 if p >= 0.5 else 1, _FLOAT_2, p, _FLOAT_3, share)
            for p, share in zip(positive, known, strict=True)
        ]
        return b"".join(predictions) + _tail(pb.PredictSentimentResponse, self.model, version.label)


class TopicTask:
    """PredictTopic: which topics is a newswire about?"""

    model: ClassVar[str] = "topic"
    method: ClassVar[str] = "PredictTopic"
    request: ClassVar[type[Message]] = pb.PredictTopicRequest

    def problem(self, manifest: Manifest) -> str | None:
        """It must map one text to a probability for each label."""
        outputs = {"probability": (-1, len(manifest.labels)), "known_words": (-1,)}
        return _signature_problem(manifest, ("BYTES", (-1,)), outputs)

    def read(self, message: bytes) -> pb.PredictTopicRequest:
        return pb.PredictTopicRequest.FromString(message)

    def encode(self, request: pb.PredictTopicRequest, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """Normalised newswires."""
        top_k = min(request.top_k or DEFAULT_TOP_K, len(version.manifest.labels))
        if len(request.newswires) * top_k > MAX_SCORES:
            raise invalid(
                f"top_k: {top_k} topics for each of {len(request.newswires)} newswires are "
                f"{len(request.newswires) * top_k} scores in one answer; this server gives {MAX_SCORES} at the most"
            )
        return _encode_texts("newswires", request.newswires, version, max_words)

    def respond(self, request: pb.PredictTopicRequest, version: Version, outputs: Outputs) -> bytes:
        """The k best topics of each newswire; equals keep the order of the labels."""
        probability = outputs[version.outputs["probability"]]
        known = outputs[version.outputs["known_words"]].tolist()
        _observe_known_words(version, known)
        labels = version.manifest.labels
        top_k = min(request.top_k or DEFAULT_TOP_K, len(labels))
        best = np.argsort(-probability, axis=1, kind="stable")[:, :top_k]
        scores = np.take_along_axis(probability, best, axis=1)
        return pb.PredictTopicResponse(
            predictions=[
                pb.TopicPrediction(
                    topics=[
                        pb.TopicScore(topic=labels[topic], topic_id=topic, probability=score)
                        for topic, score in zip(topics, row, strict=True)
                    ],
                    known_words=share,
                )
                for topics, row, share in zip(best.tolist(), scores.tolist(), known, strict=True)
            ],
            model=self.model,
            version=version.label,
        ).SerializeToString()


class HousePriceTask:
    """PredictHousePrice: what is the median home of a suburb worth?"""

    model: ClassVar[str] = "house_price"
    method: ClassVar[str] = "PredictHousePrice"
    request: ClassVar[type[Message]] = pb.PredictHousePriceRequest

    def problem(self, manifest: Manifest) -> str | None:
        """It must map the 13 features to a price."""
        return _signature_problem(manifest, ("FP32", (-1, len(_FEATURES))), {"price": (-1, 1)})

    def read(self, message: bytes) -> "CompleteHouses | pb.PredictHousePriceRequest":
        """Most houses have every feature, in order: those need no parser."""
        return _complete_houses(message) or pb.PredictHousePriceRequest.FromString(message)

    def encode(
        self, request: "CompleteHouses | pb.PredictHousePriceRequest", version: Version, max_words: int
    ) -> tuple[list[Rows], int, int]:
        """Raw features, little-endian float32, NaN for those that are absent."""
        if isinstance(request, CompleteHouses):
            _check_count("houses", request.houses, version)
            return [request.data], request.houses, len(request.data)
        houses = request.houses
        _check_count("houses", len(houses), version)
        data = b"".join([_encode_house(index, house) for index, house in enumerate(houses)])
        return [data], len(houses), len(data)

    def respond(
        self, request: "CompleteHouses | pb.PredictHousePriceRequest", version: Version, outputs: Outputs
    ) -> bytes:
        """Thousands of dollars to dollars."""
        prices = outputs[version.outputs["price"]][:, 0].tolist()
        if not math.isfinite(sum(prices)):
            _refuse_prices(prices)
        tail = _tail(pb.PredictHousePriceResponse, self.model, version.label)
        if isinstance(request, CompleteHouses):
            return b"".join([_PRICE.pack(_PRICE_HEAD, price * _THOUSAND) for price in prices]) + tail
        predictions = [
            pb.HousePricePrediction(price_usd=price * _THOUSAND, imputed=_absent(house))
            for price, house in zip(prices, request.houses, strict=True)
        ]
        return pb.PredictHousePriceResponse(predictions=predictions).SerializeToString() + tail


class CompleteHouses(NamedTuple):
    """Houses of which no feature is absent, in the default version: all there is to know of such a request."""

    data: bytes
    """Features, little-endian float32."""
    houses: int
    version: str = ""


TASKS: tuple[Task, ...] = (SentimentTask(), TopicTask(), HousePriceTask())


def _signature_problem(
    manifest: Manifest, wanted: tuple[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]
) -> str | None:
    def named(specs: Iterable[InputSpec | OutputSpec]) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {spec.name: (spec.datatype, spec.shape) for spec in specs}

    found = named(manifest.inputs)
    if list(found.values()) != [wanted]:
        return f"it must have one input, {wanted[0]} {list(wanted[1])}; it has {found}"
    if wanted[0] == "BYTES" and manifest.inputs[0].text is None:
        return "its input has no text rules"
    expected = {name: ("FP32", shape) for name, shape in outputs.items()}
    if named(manifest.outputs) != expected:
        return f"its outputs must be {expected}; they are {named(manifest.outputs)}"
    return None


def _check_count(field: str, count: int, version: Version) -> None:
    if not count:
        raise invalid(f"{field}: at least one is needed, got none")
    # Before anything is done for each: a message can hold millions of empty ones.
    if count > version.engine.max_rows:
        raise invalid(
            f"{field}: {count} instances in one request; "
            f"this server takes {version.engine.max_rows} at the most (--max-queue-rows)"
        )


def _encode_texts(
    field: str, texts: MutableSequence[str], version: Version, max_words: int
) -> tuple[list[Rows], int, int]:
    _check_count(field, len(texts), version)
    normalise = version.normalisers[version.manifest.inputs[0].name]
    rows: list[bytes] = []
    for index, text in enumerate(texts):
        try:
            rows.append(normalise(text, max_words))
        except TextTooLongError as error:
            raise invalid(
                f"{field}[{index}]: {error.words} words; this server takes {max_words} at the most (--max-text-tokens)"
            ) from error
    texts.clear()  # the rows are all that is needed while the request waits
    return [rows], len(rows), sum(map(len, rows))


def _observe_known_words(version: Version, shares: list[float]) -> None:
    observe = version.metrics.known_words.observe
    for share in shares:
        observe(share)


def _complete_houses(message: bytes) -> CompleteHouses | None:
    """The houses of a message that holds nothing else, each with every feature in order; None for any other."""
    count, rest = divmod(len(message), _HOUSE_BYTES)
    if rest or not count:
        return None
    rows = []
    for start in range(0, len(message), _HOUSE_BYTES):
        first = start + len(_HOUSE_HEAD)
        if not message.startswith(_HOUSE_HEAD, start) or message[first : start + _HOUSE_BYTES : 9] != _HOUSE_TAGS:
            return None
        values = _HOUSE_DOUBLES.unpack_from(message, first)
        if not math.isfinite(sum(values)):
            return None
        try:
            rows.append(_HOUSE.pack(*values))
        except OverflowError:
            return None
    return CompleteHouses(b"".join(rows), count)


def _refuse_prices(prices: list[float]) -> None:
    for index, price in enumerate(prices):
        if not math.isfinite(price):
            raise invalid(f"houses[{index}]: its features are so far from any house's that no price comes of them")


@cache
def _tail(response: type[Message], model: str, version: str) -> bytes:
    """What every response of a version ends with: fields may come in any order, and be joined as bytes."""
    tail: bytes = response(model=model, version=version).SerializeToString()
    return tail


def _encode_house(index: int, house: pb.House) -> bytes:
    present = house.ListFields()
    values = [value for _, value in present]
    try:
        # One test for all: a sum is finite only if its parts are.
        if math.isfinite(sum(values)):
            if len(values) < len(_FEATURES):
                every = [math.nan] * len(_FEATURES)
                for field, value in present:
                    every[field.number - 1] = value
                values = every
            return _HOUSE.pack(*values)
    except OverflowError:
        pass
    for field, value in present:
        if not math.isfinite(value):
            raise invalid(f"houses[{index}].{field.name}: expected a finite number, got {value}")
        try:
            struct.pack("<f", value)
        except OverflowError:
            raise invalid(f"houses[{index}].{field.name}: {value:g} is beyond the range of float32") from None
    raise AssertionError("unreachable: some feature is not finite or out of range")


def _absent(house: pb.House) -> list[str]:
    present = {field.name for field, _ in house.ListFields()}
    return [] if len(present) == len(_FEATURES) else [name for name in _FEATURES if name not in present]
