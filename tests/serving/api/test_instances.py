"""Instances are counted before they are parsed, however a message is put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.instances import check_instances, check_item
from serving.api.tasks import TASKS, HousePriceTask, SentimentTask
from serving.status import Code, StatusError

MOST = 10
EMPTY = b"\x0a\x00"


def refused(message: bytes) -> bool:
    try:
        check_instances(SentimentTask(), message, MOST)
    except StatusError as error:
        return error.code is Code.INVALID_ARGUMENT
    return False


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 1000])
@pytest.mark.parametrize("text", ["", "a", "\n" * 5, "x" * 300])
def test_as_many_as_are_taken_and_no_more(count: int, text: str) -> None:
    request = pb.PredictSentimentRequest(reviews=[text] * count, version="1")
    assert refused(request.SerializeToString()) is (count > MOST)


@pytest.mark.parametrize(
    "before",
    [b"", b"\x12\x01a", b"\x18\x05", b"\x21" + bytes(8), b"\x25" + bytes(4), b"\xfa\x01\x01a", b"\x23\x24"],
    ids=["nothing", "length", "varint", "8 bytes", "4 bytes", "a tag of two bytes", "a group"],
)
def test_other_fields_hide_none(before: bytes) -> None:
    assert refused(before + EMPTY * (MOST + 1))
    assert not refused(before + EMPTY * MOST)
    assert refused(before * 100 + EMPTY * (MOST + 1)), "nor do very many"


@given(st.binary(max_size=200))
def test_whatever_comes_is_walked_to_its_end(data: bytes) -> None:
    refused(data + EMPTY * MOST)
    refused(EMPTY * (MOST + 1) + data)
    check_item(data + b"\x0a" * (MOST + 1), MOST)


@given(
    st.lists(st.sampled_from(["sentiment", "topic", "house_price"]), min_size=1, max_size=3),
    st.integers(0, 2 * MOST),
    st.text(max_size=5),
)
def test_items_of_every_kind(kinds: list[str], count: int, name: str) -> None:
    parts = {
        "sentiment": pb.PredictStreamRequest(sentiment=pb.PredictSentimentRequest(reviews=["\n"] * count)),
        "topic": pb.PredictStreamRequest(topic=pb.PredictTopicRequest(newswires=["\n"] * count, top_k=3)),
        "house_price": pb.PredictStreamRequest(house_price=pb.PredictHousePriceRequest(houses=[pb.House()] * count)),
    }
    data = b"".join(parts[kind].SerializeToString() for kind in kinds)
    found = check_item(data + pb.PredictStreamRequest(id=name).SerializeToString(), MOST)
    total = max(kinds.count(kind) for kind in kinds) * count
    assert (found is not None) is (total > MOST)
    if found is not None:
        assert found.id == name
        assert found.task in TASKS


def test_pieces_of_one_request_are_one_request() -> None:
    half = pb.PredictStreamRequest(house_price=pb.PredictHousePriceRequest(houses=[pb.House()] * 6))
    found = check_item(half.SerializeToString() * 2, MOST)
    assert found is not None
    assert isinstance(found.task, HousePriceTask)
    assert found.error.message == f"houses: more than {MOST} instances in one request (--max-queue-rows)"
