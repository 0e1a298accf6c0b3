"""The fleet of one: the models of this very process, committed on its event loop."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future

from serving.courtesy import gently
from serving.repository.models import Models
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Prepared


class Local:
    """What control changes where there are no workers."""

    def __init__(self, models: Models, loop: asyncio.AbstractEventLoop) -> None:
        self._models = models
        self._loop = loop

    @property
    def lacking(self) -> Mapping[tuple[str, int], str]:
        """One has what it serves."""
        return {}

    def prepare(self, wanted: Wanted) -> Prepared:
        """Load and verify on the calling thread."""
        with gently():
            return self._models.prepare(wanted)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        """Change what is served, and return when it is."""
        done: Future[None] = Future()

        def change() -> None:
            try:
                self._models.commit(routings)
            except BaseException as error:  # noqa: BLE001 - for who waits to see
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(change)
        done.result()
