"""How right the shipped models are: whole test sets through the running server."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from benchmarks.datasets import ENVIRONMENT, DataMissing, house_test, raw_texts, sentiment_test, topic_test
from benchmarks.payloads import SERVICE, house_request, manifest
from benchmarks.servers import real_server
from benchmarks.session import Session
from benchmarks.tables import Cell, Table
from protos.prediction.v1 import prediction_pb2 as pb

NAME = "quality"

_ROWS = 100
"""Instances a request."""

_TIMEOUT = 30.0

Answers = npt.NDArray[Any]


class _Set(NamedTuple):
    """A test set and what it is measured with."""

    model: str
    what: str
    measure: Callable[[grpc.Channel, Path, bool], dict[str, Any]]


def run(session: Session) -> dict[str, Any]:
    """Every test set there is data for."""
    data = session.data
    skipped: dict[str, str] = {}
    raw: list[dict[str, Any]] = []
    if data is None:
        reason = f"no data: --data or {ENVIRONMENT} says where the test sets are"
        return {"settings": {}, "summary": {"measured": [], "skipped": dict.fromkeys(_names(), reason)}, "rounds": []}
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, len(_SETS)))
        server = stack.enter_context(real_server())
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        grpc.channel_ready_future(channel).result(_TIMEOUT)
        for one in _SETS:
            try:
                measured = {"model": one.model, "what": one.what, **one.measure(channel, data, session.quick)}
            except DataMissing as missing:
                skipped[f"{one.model}, {one.what}"] = str(missing)
                session.reporter.step(f"{one.model}, {one.what}: skipped, {missing}")
                continue
            raw.append({**measured, **_stated(one.model)})
            session.reporter.step(f"{one.model}, {one.what}: {measured['figure']:.4f}")
    settings = {"rows_a_request": _ROWS, "quick": session.quick}
    return {"settings": settings, "summary": {"measured": raw, "skipped": skipped}, "rounds": raw}


def tables(record: dict[str, Any]) -> list[Table]:
    """Measured beside stated, and what was left out."""
    rows: list[list[Cell]] = []
    for one in record["summary"]["measured"]:
        digits = 3 if one["metric"] == "MAE" else 4
        same = f"{one['same']:,} of {one['samples']:,}" if "same" in one else None
        rows.append(
            [
                *(one["model"], one["what"], one["metric"], one["samples"]),
                *(f"{one['figure']:.{digits}f}", _figure(one["package"], digits), _figure(one["book"], 3), same),
                one["rows_per_second"],
            ]
        )
    for name, reason in record["summary"]["skipped"].items():
        model, _, what = name.partition(", ")
        rows.append([model, what, f"skipped: {reason}", None, None, None, None, None, None])
    columns = (
        *("model", "test set", "measured as", "samples", "through the server", "package states", "book"),
        *("as rebuilt text", "instances/s"),
    )
    note = (
        f"Over gRPC, {_ROWS} instances a request, one request after the other. Rebuilt: the texts put together again "
        "from Keras's sequences, rare words included; raw: as they were published, of which there are 1,000, none of "
        "them also in the training set, so that their figure is one of another sample. As rebuilt text: raw texts "
        "answered with the same class. MAE: mean absolute error in thousand dollars. The book: Chollet, Deep "
        "Learning with Python."
    )
    return [Table("How right the models are", columns, rows, note, labels=3)]


def _figure(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _stated(model: str) -> dict[str, Any]:
    metrics = manifest(model)["metrics"]
    name = "mae" if "test_mae" in metrics else "accuracy"
    return {"package": metrics.get(f"test_{name}"), "book": metrics.get(f"book_test_{name}")}


def _sentiments(channel: grpc.Channel, texts: Sequence[str]) -> Answers:
    """For each review, 1 if positive."""
    call = channel.unary_unary(
        SERVICE + "PredictSentiment", response_deserializer=pb.PredictSentimentResponse.FromString
    )
    found: list[int] = []
    for start in range(0, len(texts), _ROWS):
        request = pb.PredictSentimentRequest(reviews=texts[start : start + _ROWS])
        answer = call(request.SerializeToString(), timeout=_TIMEOUT)
        found += [int(one.sentiment == pb.SENTIMENT_POSITIVE) for one in answer.predictions]
    return np.array(found)


def _topics(channel: grpc.Channel, texts: Sequence[str]) -> Answers:
    """For each newswire, its likeliest topic."""
    call = channel.unary_unary(SERVICE + "PredictTopic", response_deserializer=pb.PredictTopicResponse.FromString)
    found: list[int] = []
    for start in range(0, len(texts), _ROWS):
        request = pb.PredictTopicRequest(newswires=texts[start : start + _ROWS], top_k=1)
        answer = call(request.SerializeToString(), timeout=_TIMEOUT)
        found += [one.topics[0].topic_id for one in answer.predictions]
    return np.array(found)


def _houses(channel: grpc.Channel, data: Path, quick: bool) -> dict[str, Any]:
    features, prices = house_test(data)
    call = channel.unary_unary(
        SERVICE + "PredictHousePrice", response_deserializer=pb.PredictHousePriceResponse.FromString
    )
    started = time.monotonic()
    answer = call(house_request(features.tolist()), timeout=_TIMEOUT)
    seconds = time.monotonic() - started
    found = np.array([one.price_usd for one in answer.predictions]) / 1000
    return {
        "metric": "MAE",
        "samples": len(prices),
        "figure": float(np.abs(found - prices).mean()),
        "rows_per_second": len(prices) / seconds,
    }


_READERS = {"imdb": (sentiment_test, _sentiments), "reuters": (topic_test, _topics)}


def _rebuilt(name: Literal["imdb", "reuters"]) -> Callable[[grpc.Channel, Path, bool], dict[str, Any]]:
    read, ask = _READERS[name]

    def measure(channel: grpc.Channel, data: Path, quick: bool) -> dict[str, Any]:
        texts, labels = read(data)
        if quick:
            texts, labels = texts[:2000], labels[:2000]
        return _accuracy(ask, channel, texts, labels)[1]

    return measure


def _raw(name: Literal["imdb", "reuters"]) -> Callable[[grpc.Channel, Path, bool], dict[str, Any]]:
    read, ask = _READERS[name]

    def measure(channel: grpc.Channel, data: Path, quick: bool) -> dict[str, Any]:
        samples = raw_texts(data, name)
        found, measured = _accuracy(
            ask, channel, [one.text for one in samples], np.array([one.label for one in samples])
        )
        if not quick:
            texts, _ = read(data)
            measured["same"] = int((ask(channel, [texts[one.position] for one in samples]) == found).sum())
        return measured

    return measure


def _accuracy(
    ask: Callable[[grpc.Channel, Sequence[str]], Answers],
    channel: grpc.Channel,
    texts: Sequence[str],
    labels: npt.NDArray[np.int64],
) -> tuple[Answers, dict[str, Any]]:
    started = time.monotonic()
    found = ask(channel, texts)
    seconds = time.monotonic() - started
    return found, {
        "metric": "accuracy",
        "samples": len(labels),
        "figure": float((found == labels).mean()),
        "rows_per_second": len(labels) / seconds,
    }


_SETS = (
    _Set("sentiment", "rebuilt", _rebuilt("imdb")),
    _Set("sentiment", "raw", _raw("imdb")),
    _Set("topic", "rebuilt", _rebuilt("reuters")),
    _Set("topic", "raw", _raw("reuters")),
    _Set("house_price", "features", _houses),
)


def _names() -> list[str]:
    return [f"{one.model}, {one.what}" for one in _SETS]
