"""The data that the examples are about."""

import os
from pathlib import Path

import pytest

from tests.end_to_end.server import ROOT


def folder_with(name: str) -> Path:
    folder = Path(os.environ.get("TRIPTYCH_DATA") or ROOT / "../shared/data").resolve()
    if not (folder / name).exists():
        pytest.skip(f"{name} is not here: set TRIPTYCH_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def hotel_data() -> Path:
    return folder_with("hotels.csv")


@pytest.fixture(scope="session")
def digit_data() -> Path:
    return folder_with("mnist.npz")
