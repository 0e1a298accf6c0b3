"""The application over the shipped models, with a management that does as it is told."""

from collections.abc import Callable

import pytest

from serving.api.rest.application import application
from serving.repository.state import Entry
from serving.status import Code, StatusError
from serving.telemetry.statistics import Statistics
from tests.serving.api.desk import Desk
from tests.serving.api.rest.client import Client

MAX_BODY_BYTES = 100_000


class Management:
    """Knows one model that is not there, `absent`, and remembers what was asked for."""

    def __init__(self, desk: Desk) -> None:
        self._metrics = desk.metrics
        self.asked: list[tuple[str, str]] = []

    def index(self, done: Callable[[list[Entry] | StatusError], None]) -> None:
        done([Entry("topic", "1", "READY", ""), Entry("topic", "2", "UNAVAILABLE", "damaged")])

    def load(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._change("load", name, done)

    def unload(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._change("unload", name, done)

    def statistics(self, wanted: dict[str, list[str]], done: Callable[[list[Statistics] | StatusError], None]) -> None:
        done([self._metrics.statistics(model, version) for model, versions in wanted.items() for version in versions])

    def _change(self, what: str, name: str, done: Callable[[StatusError | None], None]) -> None:
        self.asked.append((what, name))
        done(StatusError(Code.NOT_FOUND, f"{name} is not there") if name == "absent" else None)


@pytest.fixture
def management(desk: Desk) -> Management:
    return Management(desk)


READY = {"ready": True}


@pytest.fixture
def client(desk: Desk, management: Management) -> Client:
    READY["ready"] = True
    return Client(
        application(desk.backend, management, lambda: READY["ready"], max_body_bytes=MAX_BODY_BYTES, max_delay=0.001)
    )
