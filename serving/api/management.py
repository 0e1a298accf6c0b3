"""What may be asked about models and of them, besides predictions.

None of it is answered at once: it may take a folder to be read, a model to be loaded, or other workers to be asked.
"""

from collections.abc import Callable
from typing import Protocol

from serving.repository.state import Entry
from serving.status import StatusError
from serving.telemetry.statistics import Statistics


class Management(Protocol):
    """Every `done` is called once, later, on the event loop."""

    def index(self, done: Callable[[list[Entry] | StatusError], None]) -> None:
        """Every version that is in the repository."""

    def load(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        """Serve a model, or what has changed of it: None once every worker does."""

    def unload(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        """Serve a model no more: None once no worker takes requests for it."""

    def statistics(self, wanted: dict[str, list[str]], done: Callable[[list[Statistics] | StatusError], None]) -> None:
        """What was counted of versions, by model, over all workers."""
