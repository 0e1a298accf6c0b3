"""HPACK: whatever the `hpack` package encodes is decoded as it decodes it."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from serving.transport.native.fields import MAX_LIST_BYTES, TIMEOUT, Field, FieldDecoder, Fields
from serving.transport.native.frames import ErrorCode, PeerError

NAMES = st.sampled_from([b":path", b":method", b"te", b"content-type", b"grpc-timeout", b"x", b"a-bin"]) | st.binary(
    max_size=20
)
VALUES = st.sampled_from([b"/", b"POST", b"trailers", b"application/grpc", b""]) | st.binary(max_size=200)
LISTS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12)
SIZES = st.none() | st.sampled_from([0, 40, 100, 500, 4096])


@given(blocks=st.lists(st.tuples(LISTS, st.booleans(), SIZES), max_size=8), repeats=st.lists(st.integers(0, 7)))
def test_all_that_hpack_encodes_is_decoded_alike(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]], repeats: list[int]
) -> None:
    encoder, theirs, ours = Encoder(), Decoder(), FieldDecoder()
    for fields, huffman, size in [*blocks, *(blocks[n % len(blocks)] for n in repeats if blocks)]:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        expected = tuple((bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True))
        assert together(ours.decode(block), expected) == expected


def together(found: tuple[Fields, bytes | None], expected: Fields) -> Fields:
    """The fields with grpc-timeout back where it was taken from, which is where it stands first."""
    fields, timeout = found
    if timeout is None:
        return fields
    at = [name for name, _ in expected].index(TIMEOUT)
    return (*fields[:at], (TIMEOUT, timeout), *fields[at:])


class Core:
    """Encodes as gRPC's C core does: grpc-timeout is indexed anew for each value, its name spelled out or not."""

    def __init__(self, *, spelled: bool) -> None:
        self.encoder = Encoder()
        self.spelled = spelled

    def encode(self, before: list[Field], timeout: bytes, after: list[Field]) -> bytes:
        block = bytes(self.encoder.encode(before, huffman=False))
        table = self.encoder.header_table
        if self.spelled:
            block += b"\x40\x0cgrpc-timeout" + bytes((len(timeout),)) + timeout
            table.add(TIMEOUT, timeout)
        else:
            block += bytes(self.encoder.encode([(TIMEOUT, timeout)], huffman=False))
        return block + bytes(self.encoder.encode(after, huffman=False))


TIMEOUTS = st.integers(0, 99_999_999).map(b"%dm".__mod__)
ASKED = st.lists(st.tuples(TIMEOUTS, st.sampled_from([b"", b"", b"", b"", b"", b"", b"", b"x", b"y"])), max_size=120)
FEW = st.lists(
    st.tuples(st.sampled_from([b"a", b"user-agent", b"te"]), st.sampled_from([b"", b"trailers", b"v" * 900])),
    max_size=4,
)


@given(before=FEW, after=FEW, asked=ASKED, spelled=st.booleans())
def test_blocks_that_differ_in_their_timeout_are_decoded_as_any_other(
    before: list[Field], after: list[Field], asked: list[tuple[bytes, bytes]], *, spelled: bool
) -> None:
    core, theirs, ours = Core(spelled=spelled), Decoder(), FieldDecoder()
    for timeout, odd in asked:
        block = core.encode([*before, (b"odd", odd)] if odd else before, timeout, after)
        expected = tuple((bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True))
        assert together(ours.decode(block), expected) == expected


@pytest.mark.parametrize("spelled", [True, False])
def test_a_block_that_differs_in_its_timeout_has_the_very_same_fields(*, spelled: bool) -> None:
    core, decoder = Core(spelled=spelled), FieldDecoder()
    found = [decoder.decode(core.encode([(b"a", b"b")], b"%dm" % n, [(b"c", b"d")])) for n in range(10)]
    assert [timeout for _, timeout in found] == [b"%dm" % n for n in range(10)]
    assert all(fields is found[2][0] for fields, _ in found[2:])


@pytest.mark.parametrize(
    "block",
    [
        b"\x40\x0cgrpc-timeout",  # no value
        b"\x40\x0cgrpc-timeout\x02",
        b"\x40\x0cgrpc-timeout\x021",
        b"\x40\x0cgrpc-timeout\x021m\xc6",  # an index that nothing has
    ],
)
def test_a_block_that_only_begins_like_the_last_one_is_looked_at_itself(block: bytes) -> None:
    decoder = FieldDecoder()
    for timeout in (b"1m", b"2m", b"3m"):
        decoder.decode(b"\x40\x0cgrpc-timeout\x02" + timeout)
    with pytest.raises(PeerError) as caught:
        decoder.decode(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_timeout_that_the_table_has_no_room_for_is_not_what_the_next_one_refers_to() -> None:
    decoder = FieldDecoder()
    decoder.decode(b"\x3f\x11\x40\x0cgrpc-timeout\x0212")  # a table of 48 bytes
    decoder.decode(b"\x7e\x0212")
    decoder.decode(b"\x7e\x03123")  # 47 bytes
    decoder.decode(b"\x7e\x0512345")  # 49
    with pytest.raises(PeerError):
        decoder.decode(b"\x7e\x0212")


def test_the_same_bytes_mean_something_else_once_the_table_changed() -> None:
    decoder = FieldDecoder()
    assert decoder.decode(b"\x40\x01a\x01b") == (((b"a", b"b"),), None)
    assert decoder.decode(b"\xbe") == decoder.decode(b"\xbe") == (((b"a", b"b"),), None)
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.decode(b"\xbe") == (((b"c", b"d"),), None)
    decoder.decode(b"\x20")  # the table is emptied
    with pytest.raises(PeerError):
        decoder.decode(b"\xbe")


def error_of(block: bytes) -> ErrorCode:
    with pytest.raises(PeerError) as caught:
        FieldDecoder().decode(block)
    return caught.value.code


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # of an empty table
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff",
        b"\x40",
        b"\x40\x01",
        b"\x40\x05abc",
        b"\x00\x01a\x7f\xff",
        b"\x3f\xff\xff\x7f",  # a table larger than was allowed
        b"\x82\x20",  # a size update that is late
        b"\x00\x01a\x81\x00",  # Huffman padding that is not ones
        b"\x00\x01a\x84\xff\xff\xff\xff",  # Huffman's end of string
    ],
)
def test_a_broken_block_is_a_compression_error(block: bytes) -> None:
    assert error_of(block) is ErrorCode.COMPRESSION_ERROR


@given(block=st.binary(max_size=200))
def test_garbage_is_refused_or_decoded_but_never_anything_else(block: bytes) -> None:
    decoder = FieldDecoder()
    for _ in range(2):
        try:
            decoder.decode(block)
        except PeerError:
            return


def test_a_list_that_unpacks_to_too_much_is_refused_early() -> None:
    decoder = FieldDecoder()
    value = bytes(4000)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + value)
    with pytest.raises(PeerError) as caught:
        decoder.decode(b"\xbe" * 16_000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert error_of(b"\x82" * 500) is ErrorCode.ENHANCE_YOUR_CALM
    assert len(FieldDecoder().decode(b"\x82" * (MAX_LIST_BYTES // 43))[0]) == MAX_LIST_BYTES // 43
