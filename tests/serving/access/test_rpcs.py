"""The gate before RPCs: who is let in, to what, how much at once, and that what was taken is given back."""

import gc
import random
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as inference

from protos.prediction.v1 import prediction_pb2 as pb
from serving.access import rights
from serving.access.gate import Gate, name
from serving.access.limits import Allowance, Client, Clients
from serving.access.rpcs import guarded, without_management
from serving.access.tokens import MANAGE, PREDICT, Tokens, entry, make
from serving.access.tokens import read as read_tokens
from serving.api.call import ANY, Call, Receiver, Routes, Stream, Streaming, Unary
from serving.api.peer import certified, located
from serving.status import Code, StatusError
from tests.serving.access.test_limits import Clock
from tests.serving.api.calls import MemoryCall, MemoryStream

PREDICTION = "/prediction.v1.PredictionService/"
INFERENCE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/Check"
LOAD, INDEX = INFERENCE + "RepositoryModelLoad", INFERENCE + "RepositoryIndex"
SENTIMENT, STREAM = PREDICTION + "PredictSentiment", PREDICTION + "PredictStream"


class Timers:
    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> Any:
        timer = (seconds, call)
        self.due.append(timer)

        class Handle:
            def cancel(_) -> None:  # noqa: N805
                if timer in self.due:
                    self.due.remove(timer)

        return Handle()

    def run(self) -> None:
        due, self.due = self.due, []
        for _, call in due:
            call()


class Echo(Receiver):
    """Holds messages until it is told to answer."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.got: list[bytes] = []

    def message(self, message: bytes) -> None:
        self.got.append(message)

    def half_closed(self) -> None:
        self.stream.finish()

    def draining(self) -> None:
        self.stream.finish()


class House:
    """Routes behind a gate."""

    def __init__(self, tokens: Tokens | None = None, allowance: Allowance | None = None) -> None:
        self.clock, self.timers = Clock(), Timers()
        self.calls: list[Call] = []
        self.echoes: list[Echo] = []
        self.refused: list[tuple[str, str, Code]] = []
        clients = None if allowance is None else Clients(allowance, self.clock)
        self.tokens = tokens or Tokens(())
        self.time = 1e9
        self.gate = Gate(
            None if tokens is None else lambda: self.tokens,
            clients,
            lambda route, error: self.refused.append((route, error.reason, error.code)),
            lambda: self.time,
        )
        self.clients = clients
        self.plain: Routes = {
            **{method: Unary(self._hold) for method in (SENTIMENT, LOAD, INDEX, HEALTH, INFERENCE + "ModelInfer")},
            STREAM: Streaming(self._open),
            ANY: Streaming(self._open),
        }
        self.routes = guarded(self.plain, self.gate, self.timers.later)

    def _hold(self, call: Call, message: bytes) -> None:
        if message == b"fault":
            raise RuntimeError("broken")
        self.calls.append(call)

    def _open(self, stream: Stream) -> Receiver:
        self.echoes.append(Echo(stream))
        return self.echoes[-1]

    def call(self, method: str, *shown: str, message: bytes = b"", peer: str = "ipv4:192.0.2.1:5") -> MemoryCall:
        call = MemoryCall(method, metadata=[("authorization", each) for each in shown])
        call.peer = peer
        route = self.routes[method]
        assert isinstance(route, Unary)
        route.handle(call, message)
        return call

    def stream(self, *shown: str) -> MemoryStream:
        stream = MemoryStream(STREAM)
        stream.metadata = [("authorization", each) for each in shown]
        stream.peer = "ipv4:192.0.2.1:5"
        route = self.routes[STREAM]
        assert isinstance(route, Streaming)
        stream.receiver = route.open(stream)
        return stream

    @property
    def client(self) -> Client:
        assert self.clients is not None
        return self.clients.client("192.0.2.1")


@pytest.fixture
def secrets() -> dict[str, str]:
    return {name: make() for name in ("reader", "manager", "both", "choosy")}


@pytest.fixture
def tokens(secrets: dict[str, str], tmp_path: Any) -> Tokens:
    file = tmp_path / "tokens.toml"
    file.write_text(
        entry(secrets["reader"], "reader", [PREDICT])
        + entry(secrets["manager"], "manager", [MANAGE])
        + entry(secrets["both"], "both", [PREDICT, MANAGE])
        + entry(secrets["choosy"], "choosy", [PREDICT], ["topic", "house_price"])
    )
    return read_tokens(str(file))


# Tokens and scopes.


@pytest.mark.parametrize(
    "shown",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        ("Basic {reader}",),
        ("{reader}",),
        ("Bearer {reader} x",),
        ("Bearer x{reader}",),
        ("Bearer {reader}", "Bearer {reader}"),
        ("Bearer " + "x" * 10_000,),
        ("Bearer \udcff",),
    ],
)
def test_who_shows_no_token_or_another_is_not_let_in(
    tokens: Tokens, secrets: dict[str, str], shown: tuple[str, ...]
) -> None:
    house = House(tokens)
    call = house.call(SENTIMENT, *(each.format(**secrets) for each in shown))
    assert call.error.code is Code.UNAUTHENTICATED
    assert not house.calls
    assert house.refused == [(SENTIMENT, "unauthorised", Code.UNAUTHENTICATED)]
    assert not any(secret in call.error.message for secret in secrets.values())
    stream = house.stream(*(each.format(**secrets) for each in shown))
    assert stream.code is Code.UNAUTHENTICATED
    assert not house.echoes


@pytest.mark.parametrize(
    ("who", "method", "code"),
    [
        ("reader", SENTIMENT, None),
        ("reader", LOAD, Code.PERMISSION_DENIED),
        ("reader", INDEX, None),
        ("manager", SENTIMENT, Code.PERMISSION_DENIED),
        ("manager", LOAD, None),
        ("manager", INDEX, None),
        ("both", SENTIMENT, None),
        ("both", LOAD, None),
    ],
)
def test_a_token_is_good_for_its_scopes(
    tokens: Tokens, secrets: dict[str, str], who: str, method: str, code: Code | None
) -> None:
    house = House(tokens)
    call = house.call(method, f"bearer {secrets[who]}")
    assert (None if call.answer is None else call.error.code) is code
    assert len(house.calls) == (code is None)


def test_health_and_what_nobody_offers_need_no_token(tokens: Tokens) -> None:
    house = House(tokens)
    assert house.call(HEALTH).answer is None
    assert house.routes[HEALTH] is house.plain[HEALTH]
    assert house.routes[ANY] is house.plain[ANY]


def test_everything_else_that_is_served_is_guarded() -> None:
    open_to_all = {method for method in rights._OPEN if method.startswith("/") and not method.startswith("/v")}
    assert open_to_all == {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        INFERENCE + "ServerLive",
        INFERENCE + "ServerReady",
    }
    assert rights.needed("/something/New") == {PREDICT}


def message(kind: Any, **fields: Any) -> bytes:
    made: bytes = kind(**fields).SerializeToString()
    return made


@pytest.mark.parametrize(
    ("method", "asked", "code"),
    [
        (SENTIMENT, b"", Code.PERMISSION_DENIED),
        (INFERENCE + "ModelInfer", message(inference.ModelInferRequest, model_name="topic"), None),
        (
            INFERENCE + "ModelInfer",
            message(inference.ModelInferRequest, model_name="sentiment"),
            Code.PERMISSION_DENIED,
        ),
        (INFERENCE + "ModelInfer", message(inference.ModelInferRequest), Code.PERMISSION_DENIED),
        (INFERENCE + "ModelInfer", b"\xff\xff", Code.PERMISSION_DENIED),
        (INFERENCE + "ModelInfer", b"\x0a\x05topic" + b"\x2a\x00" * 2000, Code.INVALID_ARGUMENT),
        (INDEX, b"", Code.PERMISSION_DENIED),
    ],
)
def test_a_token_with_a_list_of_models_is_for_no_other(
    tokens: Tokens, secrets: dict[str, str], method: str, asked: bytes, code: Code | None
) -> None:
    house = House(tokens, Allowance(requests=1))
    call = house.call(method, f"Bearer {secrets['choosy']}", message=asked)
    assert (None if call.answer is None else call.error.code) is code
    if code is not None:
        assert house.clients is not None
        assert house.clients.client("token choosy").in_flight == 0


def test_the_last_of_several_names_counts_as_it_does_for_the_handler(tokens: Tokens, secrets: dict[str, str]) -> None:
    """Protocol Buffers, "Last One Wins": or a first name would hide the second."""
    two = message(inference.ModelInferRequest, model_name="topic") + message(
        inference.ModelInferRequest, model_name="sentiment"
    )
    call = House(tokens).call(INFERENCE + "ModelInfer", f"Bearer {secrets['choosy']}", message=two)
    assert call.error.code is Code.PERMISSION_DENIED


def test_the_gate_reads_the_name_that_a_parser_reads_or_refuses() -> None:
    """Without a parser, which a few megabytes of empty tensors would keep busy."""
    chance = random.Random(5)
    infer = message(inference.ModelInferRequest, id="x", model_version="1", raw_input_contents=[b"y"])
    parts = [message(inference.ModelInferRequest, model_name=name) for name in ("topic", "sentiment")]
    parts += [infer, b"\x08\x01", b"\x0d\x0a\x01a\x00", b"\x8a\x00\x01b", b"\x0a\x00", b"\xba\x3e\x03\x0a\x01c"]
    item = pb.PredictStreamRequest
    kinds = [item(topic=pb.PredictTopicRequest()), item(sentiment=pb.PredictSentimentRequest(reviews=["x"]))]
    items = [each.SerializeToString() for each in (*kinds, item(id="x"))] + [b"\x08\x01", b"\xba\x3e\x00"]
    for _ in range(500):
        asked = b"".join(chance.choices(parts, k=4))
        parsed = inference.ModelInferRequest.FromString(asked)
        assert rights.names(INFERENCE + "ModelInfer")(asked) == parsed.model_name
        asked = b"".join(chance.choices(items, k=4))
        assert rights.names(STREAM)(asked) == item.FromString(asked).WhichOneof("request")
    hidden = b"\x0a\x09sentiment\xbb\x3e\x0a\x05topic\xbc\x3e"
    assert inference.ModelInferRequest.FromString(hidden).model_name == "sentiment"
    with pytest.raises(StatusError, match="groups"):
        rights.names(INFERENCE + "ModelInfer")(hidden)


def test_a_stream_ends_with_the_first_item_that_its_token_is_not_for(tokens: Tokens, secrets: dict[str, str]) -> None:
    house = House(tokens)
    stream = house.stream(f"Bearer {secrets['choosy']}")
    topic = message(pb.PredictStreamRequest, topic=pb.PredictTopicRequest())
    stream.receiver.message(topic)
    stream.receiver.message(message(pb.PredictStreamRequest, sentiment=pb.PredictSentimentRequest()))
    assert stream.code is Code.PERMISSION_DENIED
    stream.receiver.message(topic)
    assert house.echoes[0].got == [topic]


def test_a_stream_does_not_outlive_its_token(tokens: Tokens, secrets: dict[str, str], tmp_path: Any) -> None:
    """Or whoever stole one would keep what it opened for as long as they like."""
    file = tmp_path / "tokens.toml"
    house = House(tokens, Allowance(requests=9))
    stream = house.stream(f"Bearer {secrets['reader']}")
    stream.receiver.message(b"1")
    house.tokens = read_tokens(str(file))
    assert house.tokens is not tokens
    stream.receiver.message(b"2")
    until = datetime.fromtimestamp(house.time + 5, UTC)
    file.write_text(entry(secrets["reader"], "reader", [PREDICT], expires=until))
    house.tokens = read_tokens(str(file))
    stream.receiver.message(b"3")
    assert (house.echoes[0].got, stream.code) == ([b"1", b"2"], Code.UNAUTHENTICATED), "it is another token now"
    stream = house.stream(f"Bearer {secrets['reader']}")
    stream.receiver.message(b"1")
    house.time += 5
    stream.receiver.message(b"2")
    assert (house.echoes[1].got, stream.code) == ([b"1"], Code.UNAUTHENTICATED)
    assert house.refused[-1] == (STREAM, "unauthorised", Code.UNAUTHENTICATED)
    assert house.clients is not None
    assert house.clients.client("token reader").in_flight == 0


def test_models_are_managed_elsewhere_where_there_is_such_a_place() -> None:
    routes = without_management(House().plain)
    call = MemoryCall(LOAD)
    route = routes[LOAD]
    assert isinstance(route, Unary)
    route.handle(call, b"")
    assert call.error.code is Code.PERMISSION_DENIED
    assert "management address" in call.error.message
    assert routes[SENTIMENT] is House().plain[SENTIMENT] or isinstance(routes[SENTIMENT], Unary)


# Limits.


def test_calls_beyond_the_limit_are_refused_and_every_end_of_one_makes_room() -> None:
    house = House(allowance=Allowance(requests=2))
    first, second = house.call(SENTIMENT), house.call(SENTIMENT)
    third = house.call(SENTIMENT)
    assert (third.error.code, third.error.retry_after) == (Code.RESOURCE_EXHAUSTED, 0.1)
    assert house.refused[-1] == (SENTIMENT, "client_limit", Code.RESOURCE_EXHAUSTED)
    house.calls[0].reply(b"")
    assert first.answer == b""
    assert house.call(SENTIMENT).answer is None
    second.cancel()
    house.calls[2].fail(StatusError(Code.INTERNAL, ""))
    assert house.client.in_flight == 0
    house.calls[1].reply(b"")
    assert house.client.in_flight == 0, "who was cancelled may still answer"


def test_a_fault_of_the_handler_makes_room_too() -> None:
    house = House(allowance=Allowance(requests=1))
    for _ in range(3):
        assert house.call(SENTIMENT, message=b"fault").error.code is Code.INTERNAL
    assert house.client.in_flight == 0


def test_a_call_leaves_nothing_for_the_collector() -> None:
    house = House(allowance=Allowance(requests=1))
    gc.collect()
    gc.disable()
    try:
        for end in ("reply", "fail"):
            call = house.call(SENTIMENT)
            watched = house.calls.pop()
            if end == "reply":
                watched.reply(b"")
            else:
                watched.fail(StatusError(Code.INTERNAL, ""))
            left = [weakref.ref(each._answered) for each in (call,)]
            del call, watched
            assert [each() for each in left] == [None], end
    finally:
        gc.enable()


def test_clients_are_counted_apart_by_address_and_ports_do_not_matter() -> None:
    house = House(allowance=Allowance(requests=1))
    house.call(SENTIMENT, peer="ipv4:192.0.2.1:1")
    assert house.call(SENTIMENT, peer="ipv4:192.0.2.1:2").error.code is Code.RESOURCE_EXHAUSTED
    assert house.call(SENTIMENT, peer="ipv4:192.0.2.2:1").answer is None


def test_clients_are_counted_by_token_where_there_are_tokens(tokens: Tokens, secrets: dict[str, str]) -> None:
    house = House(tokens, Allowance(requests=1))
    house.call(SENTIMENT, f"Bearer {secrets['reader']}")
    assert house.call(SENTIMENT, f"Bearer {secrets['reader']}", peer="ipv4:9.9.9.9:9").answer is not None
    assert house.call(SENTIMENT, f"Bearer {secrets['both']}").answer is None


@pytest.mark.parametrize(
    ("peer", "known"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::/64"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::/64"),
        ("unix:", "unix"),
        (located("192.0.2.1", 1, "alice.example"), "certificate alice.example"),
    ],
)
def test_a_client_has_a_name(peer: str, known: str) -> None:
    assert name(peer) == known


@pytest.mark.parametrize(
    ("certificate", "identity"),
    [
        ({}, ""),
        (None, ""),
        ({"subject": ((("commonName", "alice"),),)}, "alice"),
        ({"subject": ((("commonName", "a"),),), "subjectAltName": (("DNS", "b"), ("URI", "spiffe://c"))}, "spiffe://c"),
        ({"subjectAltName": (("IP Address", "::1"), ("DNS", "b"), ("DNS", "c"))}, "b"),
    ],
)
def test_a_certificate_gives_a_name(certificate: Any, identity: str) -> None:
    assert certified(certificate) == identity


# Streams are slowed, not refused.


def test_a_stream_is_read_no_further_than_its_client_may_have_in_flight() -> None:
    house = House(allowance=Allowance(requests=2))
    stream = house.stream()
    [echo] = house.echoes
    stream.receiver.message(b"1")
    assert stream.reading
    stream.receiver.message(b"2")
    assert not stream.reading
    assert house.client.in_flight == 2
    echo.stream.send(b"one")
    assert stream.reading
    stream.receiver.message(b"3")
    assert not stream.reading
    echo.stream.send(b"two")
    echo.stream.send(b"three")
    assert (stream.reading, house.client.in_flight) == (True, 1)
    stream.receiver.half_closed()
    assert stream.code is Code.OK
    stream.cancel()
    assert house.client.in_flight == 0


def test_a_stream_waits_for_what_others_of_its_client_have_in_flight() -> None:
    house = House(allowance=Allowance(requests=2))
    stream, call = house.stream(), house.call(SENTIMENT)
    stream.receiver.message(b"1")
    assert not stream.reading
    house.timers.run()
    assert not stream.reading
    house.calls[0].reply(b"")
    assert call.answer == b""
    house.timers.run()
    assert stream.reading


def test_of_many_streams_that_wait_only_the_first_looks_for_a_place() -> None:
    """Or waiting would cost more than what is waited for: thousands would look a thousand times a second each."""
    house = House(allowance=Allowance(requests=3))
    streams = [house.stream() for _ in range(3)]
    for stream in streams:
        stream.receiver.message(b"")
    assert [stream.reading for stream in streams] == [False] * 3
    assert len(house.timers.due) == 1
    house.echoes[2].stream.send(b"")
    house.timers.run()
    assert [stream.reading for stream in streams] == [True, False, False], "in the order of their coming"
    assert len(house.timers.due) == 1
    streams[1].cancel()  # it was the next, and held a place
    house.timers.run()
    assert [stream.reading for stream in streams] == [True, False, True]
    assert not house.client.line
    for stream in (streams[0], streams[2]):
        stream.cancel()
    assert (house.client.in_flight, house.timers.due) == (0, [])


def test_a_stream_is_read_as_fast_as_its_client_may_ask() -> None:
    house = House(allowance=Allowance(rate=2))
    stream = house.stream()
    [echo] = house.echoes
    for _ in range(2):
        assert stream.reading
        stream.receiver.message(b"")
        echo.stream.send(b"")
    assert not stream.reading
    [(wait, _)] = house.timers.due
    assert wait == pytest.approx(0.5)
    house.clock.now += wait
    house.timers.run()
    assert stream.reading


def test_a_stream_beyond_the_limit_is_refused() -> None:
    house = House(allowance=Allowance(requests=1))
    house.call(SENTIMENT)
    assert house.stream().code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("end", ["cancel", "finish", "half-close"])
def test_however_a_stream_ends_all_its_places_are_given_back(end: str) -> None:
    house = House(allowance=Allowance(requests=3))
    stream = house.stream()
    for number in range(3):
        stream.receiver.message(b"%d" % number)
    assert (house.client.in_flight, stream.reading) == (3, False)
    if end == "cancel":
        stream.cancel()
    elif end == "finish":
        house.echoes[0].stream.finish()
        stream.cancel()
    else:
        stream.receiver.half_closed()
        stream.cancel()
    assert house.client.in_flight == 0
    assert not house.timers.due
    stream.receiver.message(b"on its way")
    assert house.client.in_flight == 0
    assert house.call(SENTIMENT).answer is None


def test_a_handler_that_pauses_stays_paused_until_it_says_otherwise() -> None:
    house = House(allowance=Allowance(requests=2))
    stream = house.stream()
    handler = house.echoes[0].stream
    handler.pause_reading()
    stream.receiver.message(b"1")
    assert not stream.reading
    handler.resume_reading()
    assert stream.reading
    stream.receiver.message(b"2")
    handler.resume_reading()
    assert not stream.reading, "there is no place"
    handler.pause_reading()
    handler.send(b"")
    assert not stream.reading, "there is one, but the handler does not want it"
    handler.resume_reading()
    assert stream.reading
