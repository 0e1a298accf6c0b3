"""Bodies: how large they may be, how they may be compressed, and when their answers are wanted."""

import asyncio
import gzip
import tracemalloc
import zlib

import msgspec
import pytest

from serving.api.rest import endpoint
from serving.api.rest.body import Intake, UnreadError
from serving.api.rest.coding import MAX_BYTES, MIN_BYTES, accepted
from tests.serving.api.desk import Desk
from tests.serving.api.rest.client import Client
from tests.serving.api.rest.conftest import MAX_BODY_BYTES

pytestmark = pytest.mark.asyncio

HOUSES = msgspec.json.encode({"houses": [{"rooms": 6}]})
CODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def padded(size: int) -> bytes:
    return HOUSES + b" " * (size - len(HOUSES))


async def test_a_body_in_parts(client: Client) -> None:
    whole = await client.post("/v1/house-price", HOUSES)
    parts = await client.post("/v1/house-price", [HOUSES[:5], b"", HOUSES[5:], b""])
    assert parts == whole
    assert parts.status == 200


async def test_the_largest_body(client: Client) -> None:
    assert (await client.post("/v1/house-price", padded(MAX_BODY_BYTES))).status == 200
    answer = await client.post("/v1/house-price", padded(MAX_BODY_BYTES + 1))
    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in answer.error


async def test_a_body_that_says_that_it_is_too_large_is_not_read(client: Client) -> None:
    asked = client.begin("POST", "/v1/house-price", [b" "] * 3, content_length=str(MAX_BODY_BYTES + 1))
    answer = await asked.answer()
    assert asked.taken_before_answer == 0
    assert (answer.status, answer.fields["connection"]) == (413, "close")


async def test_a_body_that_goes_on_and_on_is_read_no_further(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LINGER_SECONDS", 0.05)
    part = b" " * (MAX_BODY_BYTES // 4)
    asked = client.begin("POST", "/v1/house-price", [part] * 100)
    assert (await asked.answer()).status == 413
    assert asked.taken_before_answer == 5
    assert asked.taken == 100, "what comes after the answer is discarded, so that the answer is not"
    # Nor is the connection held for long where no more of it comes.
    asked = client.begin("POST", "/v1/house-price", b" ", ends=False, content_length="1000000")
    assert (await asked.answer()).status == 413


@pytest.mark.parametrize("coding", CODINGS)
async def test_compressed_bodies(client: Client, coding: str) -> None:
    plain = await client.post("/v1/house-price", HOUSES)
    packed = CODINGS[coding](HOUSES)
    assert await client.post("/v1/house-price", packed, content_encoding=coding) == plain
    assert await client.post("/v1/house-price", [packed[:9], packed[9:]], content_encoding=coding.upper()) == plain
    assert await client.post("/v1/house-price", HOUSES, content_encoding="identity") == plain


@pytest.mark.parametrize("coding", CODINGS)
async def test_what_decompresses_to_too_much(client: Client, coding: str) -> None:
    fits = CODINGS[coding](padded(MAX_BODY_BYTES))
    assert (await client.post("/v1/house-price", fits, content_encoding=coding)).status == 200
    bomb = CODINGS[coding](b" " * 20_000_000)
    assert len(bomb) < MAX_BODY_BYTES
    tracemalloc.start()
    answer = await client.post("/v1/house-price", bomb, content_encoding=coding)
    assert tracemalloc.get_traced_memory()[1] < 10 * MAX_BODY_BYTES, "no more is decompressed than may be"
    tracemalloc.stop()
    assert answer.status == 413
    assert "decompresses" in answer.error


@pytest.mark.parametrize("coding", CODINGS)
async def test_what_can_not_be_decompressed(client: Client, coding: str) -> None:
    packed = CODINGS[coding](HOUSES)
    for damaged in (b"", HOUSES, packed[:-1], packed + b"x", packed + packed, packed[:-4] + b"\0\0\0\0"):
        answer = await client.post("/v1/house-price", damaged, content_encoding=coding)
        assert answer.status == 400
        assert answer.error.startswith(f"the body is not {coding}: ")


async def test_codings_that_are_not_known(client: Client) -> None:
    answer = await client.post("/v1/house-price", HOUSES, content_encoding="br")
    assert (answer.status, answer.fields["accept-encoding"]) == (415, "gzip, deflate")
    assert answer.error == "content-encoding: expected gzip, deflate or identity"
    assert (await client.post("/v1/house-price", HOUSES, content_encoding="gzip, gzip")).status == 415


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
async def test_longer_answers_are_compressed_where_that_is_asked_for(
    client: Client, coding: str, unpack: object
) -> None:
    assert callable(unpack)
    body = {"newswires": ["Net profit rose"], "top_k": 46}
    plain = await client.post("/v1/topic", body)
    assert MIN_BYTES < len(plain.body) < MAX_BYTES
    assert plain.fields["vary"] == "accept-encoding"
    packed = await client.post("/v1/topic", body, accept_encoding=f"br, {coding}")
    assert packed.fields["content-encoding"] == coding
    assert unpack(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    short = await client.post("/v1/house-price", HOUSES, accept_encoding=coding)
    assert "content-encoding" not in short.fields
    longest = await client.post("/v1/topic", {"newswires": [""] * 60, "top_k": 46}, accept_encoding=coding)
    assert len(longest.body) > MAX_BYTES
    assert "content-encoding" not in longest.fields


@pytest.mark.parametrize(
    ("codings", "expected"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"deflate, gzip;q=0.5", b"deflate"),
        (b"GZIP;q=0, deflate", b"deflate"),
        (b"gzip; q=0.0", b""),
        (b"gzip;q=0.01", b"gzip"),
        (b"br, identity, *", b""),
    ],
)
async def test_codings_accepted(codings: bytes, expected: bytes) -> None:
    assert accepted(codings) == expected


@pytest.mark.parametrize("wanted", ["0", "-1", "soon", "", "nan", "inf", "1s"])
async def test_times_that_are_none(desk: Desk, client: Client, wanted: str) -> None:
    answer = await client.post("/v1/house-price", HOUSES, request_timeout_ms=wanted)
    assert (answer.status, answer.error) == (400, "Request-Timeout-Ms: expected a positive number of milliseconds")
    assert desk.rejected() == {"invalid": 1}


async def test_what_is_already_too_late(desk: Desk, client: Client) -> None:
    answer = await client.post("/v1/house-price", HOUSES, request_timeout_ms="1e-9")
    assert answer.status == 504
    assert desk.rejected() == {"expired": 1}
    assert (await client.post("/v1/house-price", HOUSES, request_timeout_ms="10000")).status == 200


async def test_a_client_that_goes_before_its_body_is_there(desk: Desk, client: Client) -> None:
    for parts in ([], [b"{"], [b"{", b"}"]):
        asked = client.begin("POST", "/v1/house-price", parts, ends=False)
        while asked.taken < len(parts):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        asked.disconnect()
        await asked.task
        assert asked.sent == []
    assert desk.all_requests() == 0


async def test_all_bodies_that_are_on_their_way_share_a_budget() -> None:
    intake = Intake(max_bytes=100, budget=150)
    waiting = asyncio.Event()

    def slow(size: int) -> object:
        parts = [b" " * size]

        async def receive() -> dict[str, object]:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": True}
            await waiting.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        return receive

    first = asyncio.ensure_future(intake.read({}, slow(90)))
    await asyncio.sleep(0)
    with pytest.raises(UnreadError) as refused:
        await intake.read({}, slow(90))
    assert refused.value.error.status == 503
    waiting.set()
    assert await first == b" " * 90
    assert await intake.read({}, slow(90)) == b" " * 90, "what was held is given back"
