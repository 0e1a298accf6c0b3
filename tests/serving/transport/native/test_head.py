"""What request fields mean."""

import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.transport.native import head as module
from serving.transport.native.fields import Fields
from serving.transport.native.head import Head, Malformed, read_head, read_timeout

GOOD: Fields = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a/B"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


def replaced(name: bytes, value: bytes | None) -> Fields:
    return tuple((n, v if n != name or value is None else value) for n, v in GOOD if n != name or value is not None)


def head_of(*more: tuple[bytes, bytes]) -> Head:
    return read_head(GOOD + more)


def test_a_good_request() -> None:
    assert read_head(GOOD) == Head("/a/B", (), b"identity", 200, "")
    assert read_timeout(None) == math.inf


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 4e-3),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0n", 0),
        (b"99999999H", 99999999 * 3600),
    ],
)
def test_timeouts_of_every_unit(value: bytes, seconds: float) -> None:
    assert read_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S", b"1h", b"\xb2S"])
def test_a_timeout_that_is_none_is_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        read_timeout(value)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        replaced(b":method", None),
        replaced(b":scheme", None),
        replaced(b":path", None),
        replaced(b":path", b""),
        (*GOOD, (b":path", b"/late")),
        (GOOD[0], *GOOD),
        ((b":status", b"200"), *GOOD),
        ((b":unknown", b""), *GOOD),
        *(
            (*GOOD, (name, b"x"))
            for name in (b"", b"Upper", b"a b", b"a:b", b"\xe4", b"a\0", b"connection", b"upgrade")
        ),
        *((*GOOD, (name, b"x")) for name in (b"keep-alive", b"transfer-encoding", b"proxy-connection")),
        *((*GOOD, (b"x", value)) for value in (b"a\0", b"a\rb", b"a\nb")),
        replaced(b":path", b"/a\r\n"),
        (*GOOD, (b"x-bin", b"a")),
        *((*GOOD, (b"content-length", value)) for value in (b"", b"-1", b"+1", b"1.0", b"0x1", b"1, 1", b"9" * 19)),
        (*GOOD, (b"content-length", b"1"), (b"content-length", b"1")),
    ],
)
def test_what_is_not_http_is_malformed(fields: Fields) -> None:
    with pytest.raises(Malformed):
        read_head(fields)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b":method", b"GET", 405),
        (b"content-type", None, 415),
        (b"content-type", b"text/plain", 415),
        (b"content-type", b"application/grpc-web", 415),
        (b"content-type", b"application/grpc-web+proto", 415),
        (b"te", None, 400),
        (b"te", b"gzip", 400),
        (b"content-type", b"application/grpc+proto", 200),
        (b"content-type", b"application/grpc;charset=utf-8", 200),
        (b":authority", None, 200),
    ],
)
def test_what_is_not_grpc_has_an_http_status(name: bytes, value: bytes | None, status: int) -> None:
    head = read_head(replaced(name, value))
    assert head.http_status == status
    assert bool(head.message) == (status != 200)


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_an_announced_length_is_known(value: bytes, length: int) -> None:
    head = head_of((b"content-length", value))
    assert (head.length, head.plain) == (length, False)


def test_a_head_without_one_asks_for_nothing_to_be_seen_to() -> None:
    assert (head_of().length, head_of().plain) == (None, True)
    assert not read_head(replaced(b":method", b"GET")).plain


@given(values=st.lists(st.binary(max_size=20), min_size=1, max_size=4), padded=st.booleans())
def test_binary_metadata_is_base64_padded_or_not_and_may_be_joined(values: list[bytes], padded: bool) -> None:
    parts = [base64.b64encode(value) for value in values]
    joined = b",".join(part if padded else part.rstrip(b"=") for part in parts)
    assert list(head_of((b"x-bin", joined)).metadata) == [("x-bin", value) for value in values]


def test_metadata_keeps_its_order_and_the_protocols_own_fields_are_none() -> None:
    head = head_of((b"b", b"1"), (b"a", b"\xff"), (b"b", b"2"), (b"grpc-encoding", b"gzip"), (b"host", b"h"))
    assert head.metadata == (("b", "1"), ("a", "\ufffd"), ("b", "2"))
    assert head.encoding == b"gzip"


def test_heads_are_kept_only_so_many_and_none_that_is_large() -> None:
    for n in range(3 * module._MAX_KNOWN):
        head_of((b"x", b"%d" % n))
    assert len(module._known) <= module._MAX_KNOWN
    module._known.clear()
    head_of((b"x", bytes(2000).replace(b"\0", b"x")))
    assert not module._known
