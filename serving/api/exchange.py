"""One prediction on its way: request, wait in the engine, answer; counted and timed, whichever API asked for it."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from serving.api.call import shutting_down, too_late
from serving.engine.request import Outputs, Request, Rows
from serving.repository.models import Models
from serving.repository.version import Version
from serving.status import Code, StatusError, fault
from serving.telemetry.metrics import UNKNOWN, Metrics

log = logging.getLogger(__name__)


class Backend:
    """What every API answers from."""

    def __init__(self, models: Models, metrics: Metrics, max_words: int) -> None:
        self.models = models
        self.metrics = metrics
        self.max_words = max_words
        """Words of one text."""
        self.draining = False
        """Set when no more requests are taken; those taken are still answered."""
        self.exchange: Callable[[Form, str, Asker, Callable[[Any], None]], Exchange] = partial(Exchange, self)
        """Makes an exchange; another does where somebody follows them."""


class Asker(Protocol):
    """The call, stream or HTTP request that an exchange is part of."""

    @property
    def follower(self) -> Any:
        """Whoever follows it, if anybody does."""

    def ids(self) -> dict[str, str]:
        """Under what the log speaks of it."""


class Form(Protocol):
    """How requests of one kind become rows of tensors, and outputs their answers."""

    @property
    def model(self) -> str:
        """Name of the model, as metrics give it."""

    def encode(self, request: Any, version: Version, max_words: int) -> tuple[Sequence[Rows], int, int]:
        """The rows of each input in the manifest's order, how many they are, and the bytes of all.

        Raises:
            StatusError: INVALID_ARGUMENT naming the field and the instance.
        """

    def respond(self, request: Any, version: Version, outputs: Outputs) -> Any:
        """The answer to a request.

        Raises:
            StatusError: no answer comes of this request.
        """


class _Nobody:
    """Whose request is over."""

    follower = None

    def ids(self) -> dict[str, str]:
        return {}


_NOBODY: Final = _Nobody()


class Exchange:
    """One prediction."""

    __slots__ = ("_answer", "_asker", "_backend", "_form", "_method", "_request", "_submitted", "_version", "started")

    submission: ClassVar[type[Request]] = Request
    """What is submitted to the engine."""

    def __init__(self, backend: Backend, form: Form, method: str, asker: Asker, answer: Callable[[Any], None]) -> None:
        """`answer` takes what the form makes of the outputs, or a StatusError that says why there are none."""
        self._backend = backend
        self._form = form
        self._method = method
        self._asker: Asker = asker
        self._answer: Callable[[Any], None] | None = answer
        self.started = time.monotonic()
        self._request: Any = None
        self._version: Version | None = None
        self._submitted: Request | None = None

    def refused(self, deadline: float, *, draining: bool = False) -> bool:
        """Finish at once, before any work, where the server is going or the deadline has passed."""
        error = shutting_down() if draining or self._backend.draining else too_late(deadline, self.started)
        if error is not None:
            self.finish(error)
        return error is not None

    def start(self, request: Any, deadline: float, priority: int = 0) -> None:
        """Hand the request, which names a `version`, to the engine, or finish at once with what is wrong with it."""
        backend = self._backend
        self._request = request
        try:
            version = self._version = backend.models.resolve(self._form.model, request.version)
            version.engine.check(self.started, deadline)
            inputs, count, size = self._form.encode(request, version, backend.max_words)
            submitted = self.submission(inputs, count, size, self.started, self._done, deadline, priority)
            version.engine.submit(submitted)
            self._submitted = submitted
            version.metrics.in_flight.inc()
        except StatusError as error:
            self.finish(error)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.finish(fault(self._method, error, self._asker.ids()))

    def cancel(self) -> None:
        """The client is gone."""
        if self._submitted is not None and not self._submitted.finished:
            assert self._version is not None  # noqa: S101 - nothing is submitted without one
            self._version.engine.cancel(self._submitted)
            self._count(Code.CANCELLED)
            self._backend.metrics.rejected(self._form.model, "cancelled")
            self._let_go()

    def finish(self, result: Any) -> None:
        """Answer and count."""
        if isinstance(result, StatusError):
            if result.reason:
                self._backend.metrics.rejected(self._form.model, result.reason)
            self._count(result.code)
        else:
            self._count(Code.OK)
        answer = self._let_go()
        assert answer is not None  # noqa: S101 - an exchange is finished once
        answer(result)

    def _let_go(self) -> Callable[[Any], None] | None:
        """Call and request hold us, and we hold them: without a collector's help none would ever go."""
        answer, self._answer, self._submitted, self._asker = self._answer, None, None, _NOBODY
        return answer

    def _done(self, submitted: Request, result: Outputs | StatusError) -> None:
        version = self._version
        assert version is not None  # noqa: S101 - nothing is submitted without one
        if isinstance(result, StatusError):
            if result.fault:  # the engine's, which knows no callers
                log.error("request failed", extra={**self._asker.ids(), "fault": result.fault})
            self.finish(result)
            return
        try:
            response = self._form.respond(self._request, version, result)
        except StatusError as error:
            self.finish(error)
            return
        except Exception as error:  # noqa: BLE001 - nor may it disturb the others of its batch
            self.finish(fault(self._method, error, self._asker.ids()))
            return
        self.finish(response)
        if version.shadow is not None:
            version.shadow(submitted, result)

    def _count(self, code: Code) -> None:
        version = self._version
        if self._submitted is not None and version is not None:
            version.metrics.in_flight.dec()
        self._backend.metrics.answered(
            self._form.model,
            UNKNOWN if version is None else version.label,
            self._method,
            code.name,
            time.monotonic() - self.started,
        )
