"""A short, seeded run of the fuzzer; `python -m tests.fuzz` is the long one."""

from collections import Counter
from random import Random

import pytest

from tests.fuzz.memory import Rig
from tests.fuzz.mutate import LIMITS, connection, execute


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_mutated_connections_break_no_invariant(first: int) -> None:
    for seed in range(first, first + 500):
        execute(seed)


def test_most_of_what_is_mutated_was_valid_before() -> None:
    ends: Counter[str] = Counter()
    for seed in range(100):
        rig = Rig(LIMITS)
        rig.feed(b"".join(connection(Random(seed))))
        ends.update(error.code.name for error in rig.server.errors)
        rig.end()
    assert ends.total() < 50, ends
