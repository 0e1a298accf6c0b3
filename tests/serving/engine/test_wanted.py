"""Names of devices, and how they are shared out."""

import re

import pytest

from serving.engine.wanted import WANTED, indices, share


@pytest.mark.parametrize(
    ("wanted", "found"), [("cuda", [0]), ("cuda:2", [2]), ("cuda:0,cuda:1", [0, 1]), ("cuda,cuda:3", [0, 3])]
)
def test_gpus_by_number(wanted: str, found: list[int]) -> None:
    assert re.fullmatch(WANTED, wanted)
    assert indices(wanted) == found


@pytest.mark.parametrize("wanted", ["cuda:1234", "cuda:0,cuda", "cuda:0,", ",cuda", "cuda:٣"])
def test_what_no_machine_has_is_no_name(wanted: str) -> None:
    assert re.fullmatch(WANTED, wanted) is None


@pytest.mark.parametrize(
    ("wanted", "workers", "shares"),
    [
        ("auto", 2, ["auto", "auto"]),
        ("cpu", 3, ["cpu", "cpu", "cpu"]),
        ("cuda:0,cuda:1", 1, ["cuda:0,cuda:1"]),
        ("cuda:0,cuda:1", 2, ["cuda:0", "cuda:1"]),
        ("cuda:0,cuda:1,cuda:2", 2, ["cuda:0,cuda:2", "cuda:1"]),
        ("cuda:0,cuda:1", 3, ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_processes_have_devices_of_their_own_where_there_are_enough(
    wanted: str, workers: int, shares: list[str]
) -> None:
    assert [share(wanted, worker, workers) for worker in range(workers)] == shares
