"""HPACK: whatever the `hpack` package encodes is decoded as it decodes it."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from serving.transport.native.fields import MAX_LIST_BYTES, FieldDecoder
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
        assert ours.decode(block) == expected


def test_the_same_bytes_mean_something_else_once_the_table_changed() -> None:
    decoder = FieldDecoder()
    assert decoder.decode(b"\x40\x01a\x01b") == ((b"a", b"b"),)
    assert decoder.decode(b"\xbe") == decoder.decode(b"\xbe") == ((b"a", b"b"),)
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.decode(b"\xbe") == ((b"c", b"d"),)
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
    assert len(FieldDecoder().decode(b"\x82" * (MAX_LIST_BYTES // 43))) == MAX_LIST_BYTES // 43
