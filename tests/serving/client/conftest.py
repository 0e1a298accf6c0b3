"""A gRPC server on a real socket that answers the typed API by simple rules, and misbehaves when told to."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from protos.prediction.v1 import prediction_pb2 as pb

TOPICS = [("earn", 3, 0.75), ("acq", 4, 0.125), ("crude", 16, 0.0625), ("trade", 19, 0.03125)]
FEATURES = [field.name for field in pb.House.DESCRIPTOR.fields]


@dataclass(frozen=True)
class Received:
    """One call as the server saw it."""

    method: str
    request: Any
    metadata: dict[str, str]
    seconds_left: float | None


class ScriptedServer:
    """Answers well, unless a misbehaviour is queued: each call consumes one."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[Received] = []
        self.health = {"readiness": 1, "models/sentiment": 1, "models/topic": 2}
        self.called = threading.Event()
        self.streams = 0
        self._misbehaviours: deque[Callable[[Any], bytes | None]] = deque()
        self._on_items: deque[Callable[[Any, Any], list[Any]]] = deque()
        self._held: list[Any] = []
        self._executor = ThreadPoolExecutor(8)
        self._server = grpc.server(self._executor)
        service = {
            "PredictSentiment": self._handler("PredictSentiment", pb.PredictSentimentRequest, self._sentiment),
            "PredictTopic": self._handler("PredictTopic", pb.PredictTopicRequest, self._topic),
            "PredictHousePrice": self._handler("PredictHousePrice", pb.PredictHousePriceRequest, self._house_price),
            "PredictStream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        health = {"Check": self._handler("Check", health_pb2.HealthCheckRequest, self._check)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("prediction.v1.PredictionService", service),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            )
        )
        credentials = options.get("credentials")
        port = (
            self._server.add_secure_port("127.0.0.1:0", credentials)
            if credentials
            else self._server.add_insecure_port("127.0.0.1:0")
        )
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._executor.shutdown()

    def fail(
        self,
        code: grpc.StatusCode,
        message: str = "scripted",
        pushback_ms: str | None = None,
        details: bytes | None = None,
    ) -> None:
        """Answer the next call with this status."""
        trailers = (("grpc-retry-pushback-ms", pushback_ms), ("grpc-status-details-bin", details))

        def misbehave(context: Any) -> None:
            context.set_trailing_metadata(tuple((key, value) for key, value in trailers if value is not None))
            context.abort(code, message)

        self._misbehaviours.append(misbehave)

    def hang(self) -> None:
        """Answer the next call only when its caller has given up."""

        def misbehave(context: Any) -> None:
            over = threading.Event()
            if context.add_callback(over.set):
                over.wait()

        self._misbehaviours.append(misbehave)

    def behave(self) -> None:
        """Answer the next call well."""
        self._misbehaviours.append(lambda context: None)

    def say(self, answer: bytes) -> None:
        """Answer the next call with these bytes."""
        self._misbehaviours.append(lambda context: answer)

    def on_item(self, *scripts: Callable[[Any, Any], list[Any]]) -> None:
        """Answer the next item of a stream, and those after it, with what these say of it and the stream's context."""
        self._on_items.extend(scripts)

    def hold(self, item: Any, context: Any) -> list[Any]:
        """For `on_item`: an answer that comes with that to the next item that is released, or at the end."""
        self._held.append(self.answer_to(item))
        return []

    def release(self, item: Any, context: Any) -> list[Any]:
        """For `on_item`: the answer, and after it, last first, those that were held."""
        held, self._held = self._held, []
        return [self.answer_to(item), *reversed(held)]

    def answer_to(self, item: Any) -> Any:
        """The good answer to an item."""
        kind = item.WhichOneof("request")
        answer = {"sentiment": self._sentiment, "topic": self._topic, "house_price": self._house_price}[kind]
        return pb.PredictStreamResponse(id=item.id, **{kind: answer(getattr(item, kind), None)})

    def _stream(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.streams += 1
        metadata = dict(context.invocation_metadata())
        for message in messages:
            item = pb.PredictStreamRequest.FromString(message)
            self.calls.append(Received("PredictStream", item, metadata, context.time_remaining()))
            self.called.set()
            script = self._on_items.popleft() if self._on_items else lambda item, _: [self.answer_to(item)]
            for answer in script(item, context):
                yield answer if isinstance(answer, bytes) else answer.SerializeToString()
        held, self._held = self._held, []
        for answer in held:
            yield answer.SerializeToString()

    def _handler(self, method: str, request_type: Any, answer: Callable[[Any, Any], Any]) -> Any:
        def handle(message: bytes, context: Any) -> bytes:
            request = request_type.FromString(message)
            metadata = dict(context.invocation_metadata())
            self.calls.append(Received(method, request, metadata, context.time_remaining()))
            self.called.set()
            scripted = self._misbehaviours.popleft()(context) if self._misbehaviours else None
            return answer(request, context).SerializeToString() if scripted is None else scripted

        return grpc.unary_unary_rpc_method_handler(handle)

    @staticmethod
    def _sentiment(request: Any, context: Any) -> Any:
        return pb.PredictSentimentResponse(
            predictions=[
                pb.SentimentPrediction(
                    sentiment=pb.SENTIMENT_POSITIVE if "wonderful" in review else pb.SENTIMENT_NEGATIVE,
                    positive_probability=0.875 if "wonderful" in review else 0.25,
                    known_words=0.5 if review else 0,
                )
                for review in request.reviews
            ],
            model="sentiment",
            version=request.version or "7",
        )

    @staticmethod
    def _topic(request: Any, context: Any) -> Any:
        scores = [pb.TopicScore(topic=t, topic_id=i, probability=p) for t, i, p in TOPICS[: request.top_k or 3]]
        return pb.PredictTopicResponse(
            predictions=[pb.TopicPrediction(topics=scores, known_words=1) for _ in request.newswires],
            model="topic",
            version=request.version or "7",
        )

    @staticmethod
    def _house_price(request: Any, context: Any) -> Any:
        return pb.PredictHousePriceResponse(
            predictions=[
                pb.HousePricePrediction(
                    price_usd=4000 * house.rooms, imputed=[name for name in FEATURES if not house.HasField(name)]
                )
                for house in request.houses
            ],
            model="house_price",
            version=request.version or "7",
        )

    def _check(self, request: Any, context: Any) -> Any:
        if request.service not in self.health:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=self.health[request.service])


@pytest.fixture
def start_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start any number of scripted servers, for as long as the test runs."""
    with ExitStack() as stack:

        def start(**options: Any) -> ScriptedServer:
            server = ScriptedServer(**options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def server(start_server: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """One scripted server, which is also the default one."""
    server = start_server()
    monkeypatch.setenv("TRIPTYCH_ADDRESS", server.address)
    return server
