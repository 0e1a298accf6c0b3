"""Control of a server's own models, as the API and the server's life ask for it."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from serving.config import Settings
from serving.repository import trial
from serving.repository.control import Control
from serving.repository.disk import RepositoryError
from serving.repository.later import loading
from serving.repository.routing import Fleet
from serving.repository.state import Entry
from serving.repository.trials import Trials
from serving.repository.watch import Watch
from serving.status import StatusError, fault
from serving.telemetry.metrics import Metrics
from serving.telemetry.statistics import Statistics

Result = TypeVar("Result")


class NoModelError(Exception):
    """There is nothing to serve, or not all that was asked for; the message says why."""


def control(settings: Settings, fleet: Fleet, metrics: Metrics) -> Watch:
    """A folder's control, and the thread for it."""
    folder = Path(settings.models)

    def run(package: Path, name: str, version: int, digest: str) -> None:
        trial.try_out(folder, package, name, version, digest, max_batch_rows=settings.max_batch_rows)

    trials = Trials(run)
    controlled = Control(
        folder, fleet, metrics, mode=settings.model_control, versions=settings.versions, try_out=trials
    )
    watch = Watch(controlled, settings.model_poll_seconds if settings.model_control == "poll" else math.inf)
    trials.ended = watch.trial_ended
    return watch


def start(settings: Settings, controlled: Control) -> None:
    """Load what is to be served from the start.

    Raises:
        NoModelError: a server can't start with that.
    """
    names = [name.strip() for name in settings.load_models.split(",") if name.strip()]
    try:
        controlled.start(names)
    except RepositoryError as error:
        raise NoModelError(str(error)) from error
    failures = "; ".join(controlled.failures)
    if failures and settings.strict_load:
        raise NoModelError(f"--strict-load: {failures}")
    if not any(routing.versions for routing in controlled.routings.values()) and (failures or names):
        raise NoModelError(f"no model could be loaded: {failures}")


class Manager:
    """The management of one process that controls itself."""

    def __init__(self, settings: Settings, fleet: Fleet, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._metrics = metrics
        self._loop = loop
        self._watch = control(settings, fleet, metrics)

    async def start(self) -> None:
        """Load what is to be served from the start.

        Raises:
            NoModelError: a server can't start with that.
        """
        done: asyncio.Future[None] = self._loop.create_future()

        def finish(error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._watch.ask(partial(start, self._settings), partial(self._post, finish))
        await done

    def ready(self) -> None:
        """Nobody waits to hear that the ports are served."""

    def stop(self) -> None:
        """Look at the folder no more."""
        self._watch.stop()

    def failed(self, name: str, number: int, digest: str, reason: str) -> None:
        """A version that is served is sound no more; called on whatever thread."""
        self._watch.ask(lambda controlled: controlled.failed(name, number, digest, reason), nobody)

    def index(self, done: Callable[[list[Entry] | StatusError], None]) -> None:
        self._ask("RepositoryIndex", Control.index, done)

    def load(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._ask("RepositoryModelLoad", loading(name), done)

    def unload(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._ask("RepositoryModelUnload", lambda controlled: controlled.unload(name), done)

    def statistics(self, wanted: dict[str, list[str]], done: Callable[[list[Statistics] | StatusError], None]) -> None:
        self._loop.call_soon(done, statistics(self._metrics, wanted))

    def _ask(self, what: str, work: Callable[[Control], Result], done: Callable[[Any], None]) -> None:
        self._watch.ask(work, lambda result: self._post(done, result_or_status(what, result)))

    def _post(self, done: Callable[[Any], None], result: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(done, result)


def nobody(_: Any) -> None:
    """Waits to hear what came of it."""


def result_or_status(what: str, result: Any) -> Any:
    """A result as it is; an error as the status that a call ends with."""
    if isinstance(result, BaseException) and not isinstance(result, StatusError):
        return fault(what, result)
    return result


def statistics(metrics: Metrics, wanted: dict[str, list[str]]) -> list[Statistics]:
    """What one process counted of versions, by model."""
    return [metrics.statistics(model, version) for model, versions in wanted.items() for version in versions]
