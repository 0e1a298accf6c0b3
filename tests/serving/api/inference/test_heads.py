"""What is read quickly is read as the parser reads it, whatever comes."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from serving.api.call import Routes
from serving.api.inference import heads
from serving.api.inference.heads import Heads
from serving.api.inference.service import SERVICE, InferenceService
from serving.status import Code, StatusError
from tests.serving.api.calls import call, stream
from tests.serving.api.inference.desk import InferDesk, house, open_infer_desk, texts
from tests.serving.packages import value


class Forgetful(Heads):
    """Never knows one."""

    def find(self, *_: Any, **__: Any) -> None:
        return None


class Pair:
    """One service that learns, and one that never does."""

    def __init__(self, desk: InferDesk) -> None:
        self.desk = desk
        self.quick = desk.inference
        self.slow = forgetful(desk)

    async def both(self, message: bytes) -> list[object]:
        return [await ask(service.routes(), message) for service in (self.quick, self.slow)]

    async def both_streamed(self, message: bytes) -> list[list[bytes]]:
        found = []
        for service in (self.quick, self.slow):
            opened = stream(service.routes(), f"/{SERVICE}/ModelStreamInfer")
            opened.receiver.message(message)
            if not opened.finished:
                opened.receiver.half_closed()
            while not opened.finished:  # noqa: ASYNC110 - whatever it takes
                await asyncio.sleep(0)
            found.append([*opened.sent, repr(opened.error).encode()])
        return found


def forgetful(desk: InferDesk) -> InferenceService:
    service = InferenceService(desk.backend, desk.management)
    service._asking._heads = service._streamed._heads = Forgetful()
    return service


async def ask(routes: Routes, message: bytes) -> object:
    made = call(routes, f"/{SERVICE}/ModelInfer", message)
    try:
        return await made.message()
    except StatusError as error:
        return error.code, error.message


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def pair(runner: asyncio.Runner) -> Iterator[Pair]:
    desk = runner.run(open_infer_desk())
    yield Pair(desk)
    runner.run(desk.models.close())


IDS = st.sampled_from(["", "7", "id-1", "id-2", "é", "x" * 200])
ROOMS = st.sampled_from([6.5, 0.0, -1e30, float("nan"), float("inf")])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Messages that clients might send."""
    fields = {"id": draw(IDS), "model_version": draw(st.sampled_from(["", "1", "2"]))}
    if draw(st.booleans()):
        text = draw(st.sampled_from(["", "wonderful film", "wheat " * 60, "a é" * 40, "x" * 200]))
        made = texts(draw(st.sampled_from(["sentiment", "topic"])), [text], column=draw(st.booleans()), **fields)
        for name in draw(st.sampled_from([(), ("probability",), ("known_words", "probability")])):
            made.outputs.add(name=name)
        return bytes(made.SerializeToString())
    made = house(draw(st.integers(1, 3)), **fields)
    data = np.frombuffer(made.raw_input_contents[0], np.float32).copy()
    data[draw(st.integers(0, len(data) - 1))] = draw(ROOMS)
    made.raw_input_contents[0] = data.tobytes()
    for name in draw(st.sampled_from([(), ("price",), ("prices",)])):
        made.outputs.add(name=name)
    if draw(st.booleans()):
        made.parameters["timeout"].int64_param = draw(st.sampled_from([0, 10**9, -1]))
    if draw(st.booleans()):
        made.parameters["whatever"].string_param = draw(st.sampled_from(["", "\x1a\x01a"]))
    if draw(st.integers(0, 9)) == 0:
        made.raw_input_contents.append(draw(st.binary(max_size=8)))
    return bytes(made.SerializeToString())


PIECES = st.sampled_from(
    [
        b"\x1a\x01a",
        b"\x1a\x00",
        b"\x1a\x02\xff\xfe",
        b"\x1a\x81\x00b",
        b"\x1b\x1a\x01a\x1c",
        b"\x3a\x34" + b"\0" * 52,
        b"\x3a\x00",
        b"\x3a\x05\x01\x00\x00\x00a",
        b"\x01\x00\x00\x00\xff",
        b"\x80",
        b"\x0a\x05topic",
        b"\x12\x011",
        b"\x9a\x06\x02hi",
        b"\x22\x00",
        b"\x2a\x00",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A message, and another made of it."""
    first = draw(requests())
    second = bytearray(draw(st.sampled_from([first, draw(requests())])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(second) - 1)) if second else 0
        match draw(st.integers(0, 5)):
            case 0 if second:
                second[at] = draw(st.integers(0, 255))
            case 1:
                second[at:at] = draw(PIECES)
            case 2:
                del second[at : at + draw(st.integers(1, 4))]
            case 3:
                second += draw(PIECES)
            case 4:
                second[:0] = draw(PIECES)
            case _:
                second[at:at] = draw(st.binary(max_size=3))
    return first, bytes(second)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=mutated())
def test_quick_and_slow_give_the_same(runner: asyncio.Runner, pair: Pair, messages: tuple[bytes, bytes]) -> None:
    for message in (messages[0], *messages):
        quick, slow = runner.run(pair.both(message))
        assert quick == slow


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=mutated())
def test_quick_and_slow_give_the_same_on_streams(
    runner: asyncio.Runner, pair: Pair, messages: tuple[bytes, bytes]
) -> None:
    for message in (messages[0], *messages):
        quick, slow = runner.run(pair.both_streamed(message))
        assert quick == slow


def test_what_an_odd_message_teaches_is_right(runner: asyncio.Runner, pair: Pair) -> None:
    """Each first as it is, then with another id or tensor where a head that was read wrongly would put one."""
    plain = house(id="a").SerializeToString()
    tensor = house().raw_input_contents[0]
    for odd in (
        b"\x1b\x1a\x01a\x1c" + house().SerializeToString(),  # an id within a group that nobody knows
        plain + b"\x1a\x01b",
        b"\x1a\x01b" + plain,
        plain + b"\x9a\x06\x36\x3a\x34" + tensor,  # an unknown field that ends like a tensor
        plain.replace(b"\x1a\x01a", b"\x1a\x81\x00a"),
        plain.replace(b"\x1a\x01a", b"\x1a\x00\x1a\x00"),
        plain.replace(b"\x3a\x34", b"\xba\x00\x34"),
        plain.replace(b"\x3a\x34", b"\x3a\xb4\x00"),
        plain + b"\x2b\x3a\x34" + tensor + b"\x2c",
    ):
        for message in (
            odd,
            odd,
            odd.replace(b"\x01a", b"\x01c"),
            odd.replace(b"\x01a", b"\x01\xff"),
            odd[:-4] + b"\0\0\x80?",
            odd[:-4] + b"\0\0\x80\x7f",
        ):
            quick, slow = runner.run(pair.both(message))
            assert quick == slow


def test_what_an_odd_text_teaches_is_right(runner: asyncio.Runner, pair: Pair) -> None:
    plain = texts("sentiment", ["wonderful"], id="a").SerializeToString()
    text = b"\x09\0\0\0wonderful"
    head = plain.removesuffix(b"\x0d" + text)
    for message in (
        plain,
        head + b"\x0d\x09\0\0\0dreadful!",
        head + b"\x8d\x00" + text,
        head + b"\x8d\x80\x80\x80\x00" + text,
        head + b"\x8d\x80\x80\x80\x80\x00" + text,
        head + b"\x8d\x80\x80\x80\x80\x80\x80\x80\x80\x00" + text,
        head + b"\x8d\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00" + text,
        head + b"\x80",
        head + b"\x00",
        head,
        head + b"\x05\x01\0\0\0\xff",
        head + b"\x05\x02\0\0\0a",
        head + b"\x0c" + text,
        head + b"\x0e" + text,
        plain + b"\x3a\x00",
        head + b"\xe5\x03\xe1\x01\0\0" + b"wheat " * 80 + b"a",
        head[:-1] + b"\xba\x00\x0d" + text,
    ):
        for again in (message, message):
            quick, slow = runner.run(pair.both(again))
            assert quick == slow


@pytest.mark.asyncio
async def test_single_texts_of_any_length_have_one_head(desk: InferDesk) -> None:
    for text in ("a", "a wonderful film", "word " * 49):
        response = await desk.answer(texts("topic", [text]))
        assert response.outputs[0].shape == [1, 46]
    assert len(desk.inference._heads) == 1
    assert value(desk.metrics, "triptych_known_words_ratio_count", model="topic") == 3
    for number in range(30):
        await desk.answer(texts("topic", ["a"], parameters={f"p{number:02}": pb.InferParameter(int64_param=1)}))
    assert len(desk.inference._heads) == heads.MAX_OF_TEXTS


@pytest.mark.asyncio
async def test_a_known_head_needs_no_parser(desk: InferDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MAX_LENGTHS", 3)
    first = await desk.answer(house(id="first"))
    known = desk.inference._heads

    def found(made: Any) -> bool:
        return known.find(made.SerializeToString(), desk.models) is not None

    assert found(house(id="other")), "an id of the same length"
    assert not found(house(id="é a"))
    assert not found(house(id="longer"))
    assert not found(house(id="other", model_version="1"))
    for rows in range(2, 5):
        await desk.answer(house(rows))
        assert found(house(rows))
    assert not found(house(id="other")), "the oldest goes where there are too many"
    assert len(known) == 3
    assert pb.ModelInferResponse.FromString(first.SerializeToString()).id == "first"


@pytest.mark.asyncio
async def test_few_heads_of_one_length_are_kept(desk: InferDesk) -> None:
    for n in range(20):
        await desk.answer(house(parameters={f"p{n:02}": pb.InferParameter(int64_param=1)}))
        await desk.answer(house(parameters={f"p{n:02}": pb.InferParameter(int64_param=1)}))
    assert len(desk.inference._heads) == heads.MAX_OF_A_LENGTH


@pytest.mark.asyncio
async def test_what_has_no_head_is_not_learnt(desk: InferDesk) -> None:
    await desk.answer(texts("sentiment", ["x", "y"]))
    await desk.answer(texts("sentiment", ["x"], raw=False))
    await desk.answer(house(raw=False))
    made = house()
    made.outputs.add(name="price").parameters["classification"].int64_param = 1
    await desk.answer(made)
    await desk.answer(house(id="x" * heads.MAX_BYTES))
    late = house().SerializeToString() + pb.ModelInferRequest(id="late").SerializeToString()
    assert (await desk.answer(late)).id == "late"
    desk.error(house(model_version="7"))
    assert len(desk.inference._heads) == 0


@pytest.mark.asyncio
async def test_a_head_is_good_for_the_version_that_it_was_learnt_with(desk: InferDesk) -> None:
    await desk.answer(house())
    message = house().SerializeToString()
    known = desk.inference._heads
    assert known.find(message, desk.models)
    version = desk.models.resolve("house_price", "")
    digest, version.digest = version.digest, "another"
    assert known.find(message, desk.models) is None
    await desk.answer(house())
    assert len(known) == 1, "the new one takes the old one's place"
    assert known.find(message, desk.models)
    version.digest = digest
    desk.models.commit({"house_price": None})
    assert desk.error(message).code is Code.NOT_FOUND


@pytest.mark.asyncio
async def test_an_output_of_another_shape_is_told_as_it_is(desk: InferDesk) -> None:
    made = house(id="seven")
    await desk.answer(made)
    message = made.SerializeToString()
    found = desk.inference._heads.find(message, desk.models)
    assert found is not None
    head, quick = found
    version = desk.models.resolve("house_price", "")
    odd = [np.arange(3, dtype=np.float32).reshape(1, 3)]
    response = pb.ModelInferResponse.FromString(head.respond(quick, version, odd))
    assert (response.id, list(response.outputs[0].shape)) == ("seven", [1, 3])
