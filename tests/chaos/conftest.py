"""What every fault test has: a way to say what it measured, which `python -m benchmarks faults` shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.packages import one_model
from tests.serving.packages import copy

Figure = Callable[[str, object], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Records one figure, by its name and unit; they stand in pytest's JUnit report."""
    properties = request.node.user_properties
    properties.append(("fault", (request.node.function.__doc__ or "").partition("\n")[0].rstrip(".")))

    def note(name: str, value: object) -> None:
        properties.append((name, round(value, 4) if isinstance(value, float) else value))

    return note


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder of one small model, for those who leave it as it is."""
    return one_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with one beside it whose answers may be large."""
    models = one_model(tmp_path_factory.mktemp("models"))
    copy(models, "topic")
    return models
