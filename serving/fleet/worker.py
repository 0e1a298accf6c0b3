"""One of several processes that share a port: a server whose models its supervisor controls, over a line.

The supervisor has it prepare and commit versions, and asks for what it counted; a worker's clients may ask for what
only the supervisor can do. A worker does not outlive its supervisor.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from serving import logs
from serving.api.call import shutting_down
from serving.config import Settings
from serving.courtesy import step_back
from serving.engine.wanted import share
from serving.fleet.line import Answer, Line
from serving.manager import result_or_status, statistics
from serving.redaction import show_content
from serving.repository.disk import LoadError
from serving.repository.local import Local
from serving.repository.models import Models
from serving.repository.state import Entry
from serving.status import StatusError
from serving.telemetry.metrics import Metrics
from serving.telemetry.statistics import Statistics

log = logging.getLogger(__name__)

PREPARE, COMMIT, STARTED, METRICS, STATISTICS = "prepare", "commit", "started", "metrics", "statistics"
"""What a supervisor asks."""

READY, INDEX, LOAD, UNLOAD, ALL_STATISTICS, FAILED = "ready", "index", "load", "unload", "all statistics", "failed"
"""What a worker asks."""


@dataclass(frozen=True)
class Refused:
    """A LoadError on its way through the line."""

    outcome: str
    message: str
    lasting: bool = True


def main(number: int, settings: Settings, sockets: dict[str, socket.socket], pipe: Any) -> None:
    """Run worker `number` to its end: the entry point of a spawned process."""
    started = time.monotonic()
    for received in (signal.SIGTERM, signal.SIGINT):
        signal.signal(received, lambda *_: os._exit(0))  # see serving.__main__
    from serving.process.memory import share_one_heap

    share_one_heap()
    import uvloop

    from serving.server import Share, StartError, serve

    settings = msgspec.structs.replace(settings, device=share(settings.device, number - 1, settings.workers))
    logs.configure(settings.log_format, settings.log_level)
    show_content(settings.log_content)

    try:
        code = uvloop.run(serve(settings, started, Share(number, sockets, lambda *its: Worker(pipe, *its))))
        os._exit(code)  # a model may be loading that never ends to
    except StartError as error:
        print(f"triptych: {error}", file=sys.stderr)  # noqa: T201 - as the command line says it
        sys.exit(1)


class Worker:
    """The worker's end: does what the supervisor says, and passes on what clients ask for."""

    def __init__(self, pipe: Any, models: Models, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._local = Local(models, loop)
        self._started: asyncio.Future[None] = loop.create_future()
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._line = Line(pipe, self._asked, "line")
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    async def start(self) -> None:
        """Wait until the supervisor has said what to serve."""
        await self._started

    def ready(self) -> None:
        """Tell the supervisor that the ports are served."""
        self._line.ask(READY)

    def stop(self) -> None:
        """The supervisor changes nothing more in one that ends."""

    def failed(self, name: str, number: int, digest: str, reason: str) -> None:
        """Tell the supervisor that a version which is served is sound no more; called on whatever thread."""
        self._line.ask(FAILED, (name, number, digest, reason))

    def index(self, done: Callable[[list[Entry] | StatusError], None]) -> None:
        self._pass_on(INDEX, None, done)

    def load(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._pass_on(LOAD, name, done)

    def unload(self, name: str, done: Callable[[StatusError | None], None]) -> None:
        self._pass_on(UNLOAD, name, done)

    def statistics(self, wanted: dict[str, list[str]], done: Callable[[list[Statistics] | StatusError], None]) -> None:
        self._pass_on(ALL_STATISTICS, wanted, done)

    def _pass_on(self, what: str, argument: Any, done: Callable[[Any], None]) -> None:
        def tell(future: "Future[Any]") -> None:
            error = future.exception()
            result = shutting_down() if error is not None else future.result()
            self._loop.call_soon_threadsafe(done, result_or_status(what, result))

        self._line.ask(what, argument).add_done_callback(tell)

    def _asked(self, what: str, argument: Any, answer: Answer) -> None:
        if what == METRICS:
            answer(list(self._metrics.registry.collect()))
        elif what == STATISTICS:
            answer(statistics(self._metrics, argument))
        elif what == PREPARE:
            self._control.submit(self._prepare, argument, answer)
        elif what == COMMIT:
            self._control.submit(self._commit, argument, answer)
        elif what == STARTED:
            self._control.submit(self._start, answer)

    def _prepare(self, wanted: Any, answer: Answer) -> None:
        try:
            answer(self._local.prepare(wanted))
        except LoadError as error:
            answer(Refused(error.outcome, str(error), error.lasting))
        except Exception as error:  # noqa: BLE001 - the supervisor waits
            answer(Refused("load_error", f"{type(error).__name__}: {error}"))

    def _commit(self, routings: Any, answer: Answer) -> None:
        try:
            self._local.commit(routings)
        except Exception:
            # Half of a change is worse than one worker fewer for a moment: who takes its place begins anew.
            log.exception("a worker could not do what the others did")
            os._exit(1)
        answer(None)

    def _start(self, answer: Answer) -> None:
        self._loop.call_soon_threadsafe(self._started.set_result, None)
        step_back()
        answer(None)

    def _follow(self) -> None:
        self._line.wait_until_ended()
        os.kill(os.getpid(), signal.SIGTERM)
