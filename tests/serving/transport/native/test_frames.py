"""Frames as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.transport.native import frames
from serving.transport.native.frames import ErrorCode, PeerError


@given(
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    stream=st.integers(0, 2**31 - 1),
    payload=st.binary(max_size=70),
)
def test_a_frame_is_its_header_and_its_payload(kind: int, flags: int, stream: int, payload: bytes) -> None:
    data = frames.frame(kind, flags, stream, payload)
    assert data == len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload
    assert data == frames.frame(kind, flags, stream, memoryview(payload))


def test_a_long_frame_has_its_length_in_three_bytes() -> None:
    assert frames.frame(0, 0, 1, bytes(0x10203))[:3] == b"\x01\x02\x03"


def test_frames_of_fixed_layout() -> None:
    assert frames.settings({}) == bytes.fromhex("000000 04 00 00000000")
    assert frames.settings({3: 7, 6: 1}) == bytes.fromhex("00000c 04 00 00000000 0003 00000007 0006 00000001")
    assert frames.window_update(5, 9) == bytes.fromhex("000004 08 00 00000005 00000009")
    assert frames.reset(3, ErrorCode.CANCEL) == bytes.fromhex("000004 03 00 00000003 00000008")
    assert frames.goaway(1, ErrorCode.NO_ERROR, b"x") == bytes.fromhex("000009 07 00 00000000 00000001 00000000 78")


@given(payload=st.binary(max_size=50), padding=st.integers(0, 255))
def test_padding_is_taken_off(payload: bytes, padding: int) -> None:
    padded = bytes((padding,)) + payload + bytes(padding)
    assert frames.unpadded(frames.PADDED, padded) == payload
    assert frames.unpadded(0, padded) == padded


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x05abcd", b"\xff" * 100])
def test_padding_as_long_as_its_frame_ends_the_connection(payload: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        frames.unpadded(frames.PADDED, payload)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR
