"""The real reviews, read once: that takes longer than anything measured on them."""

from pathlib import Path

import pytest

from training.data import IMDB, Data, load


@pytest.fixture(scope="session")
def real_reviews(real_data: Path) -> Data:
    return load(IMDB, real_data)
