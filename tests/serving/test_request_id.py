"""Ids of requests: what is repeated, and what is not."""

import pytest

from serving.request_id import accepted, made


@pytest.mark.parametrize(
    "given", ["1", "a" * 128, "3b9e6d0c-0f5a-4b7e-9d59-1c5f5b3f0a11", "Root=1-67891233-abcdef", "x/y:z"]
)
def test_what_is_safe_is_repeated(given: str) -> None:
    assert accepted(given) == given == accepted(given.encode())


@pytest.mark.parametrize(
    "given", [None, "", "a" * 129, "a b", 'a"b', "a\nb", "a\r\nx: y", "ü", "a\\b", "\x1b[2J", b"\xff", "{}"]
)
def test_what_is_not_is_not(given: str | bytes | None) -> None:
    assert accepted(given) is None


def test_those_that_are_made_are_many_and_good() -> None:
    ids = {made() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(accepted(each) == each for each in ids)
