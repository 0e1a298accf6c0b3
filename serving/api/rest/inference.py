"""The Open Inference Protocol v2 over HTTP, with Triton's extensions, under `/v2`."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from serving.api.exchange import Backend
from serving.api.inference import about, parameters
from serving.api.inference.asking import unknown
from serving.api.inference.form import InferForm, InferRequest
from serving.api.management import Management
from serving.api.rest.ask import Ask, Handler
from serving.api.rest.errors import Reply
from serving.api.rest.reading import read
from serving.api.rest.tensors import JsonData, elements, read_request, write_result
from serving.engine.request import Outputs, Rows
from serving.repository.version import Version
from serving.status import Code, StatusError, invalid, shown
from serving.telemetry.metrics import UNKNOWN

METHOD: Final = "POST /v2/infer"

HEAD_BYTES: Final = b"inference-header-content-length"
"""The field that says how many bytes of a body are JSON, where binary tensors follow."""

_BINARY: Final = (b"content-type", b"application/octet-stream")
_OVERRIDES: Final = ("config", "file:")
"""Parameters of a load that bring what else lies in the folder."""

Routes = dict[str, dict[str, Handler]]


class _Empty(msgspec.Struct):
    """A body of which nothing is looked at."""

    parameters: dict[str, Any] = {}


class _IndexRequest(msgspec.Struct):
    """What of the repository is asked for."""

    ready: bool = False


class JsonForm(InferForm):
    """How requests for one model are read from JSON, and answered."""

    def encode(self, request: InferRequest, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """As for any form; data that is still JSON is read here, where it is known how much there may be of it."""
        specs = {spec.name: spec for spec in version.manifest.inputs}
        request.inputs = [
            tensor._replace(data=elements(tensor.data, specs[tensor.name], tensor, place, version.engine.max_rows))
            if isinstance(tensor.data, JsonData) and tensor.name in specs
            else tensor
            for place, tensor in enumerate(request.inputs)
        ]
        return super().encode(request, version, max_words)

    def respond(self, request: InferRequest, version: Version, outputs: Outputs) -> Reply:
        """The answer: JSON, and binary tensors where some are asked for."""
        head, behind = write_result(super().respond(request, version, outputs), request)
        if not behind:
            return Reply(head)
        return Reply(head + behind, fields=(_BINARY, (HEAD_BYTES, b"%d" % len(head))))


class InferenceApi:
    """Answers `/v2`."""

    def __init__(
        self, backend: Backend, management: Management, ready: Callable[[], bool], max_delay: float = 0.0
    ) -> None:
        """`ready`: is the server? `max_delay`: seconds for which batches may wait, as the configuration tells it."""
        self._backend = backend
        self._models = backend.models
        self._management = management
        self._is_ready = ready
        self._max_delay = max_delay
        self._forms: dict[str, JsonForm] = {}
        self._index_request = msgspec.json.Decoder(_IndexRequest)
        self._empty = msgspec.json.Decoder(_Empty)

    def routes(self) -> Routes:
        """Handlers by path and method; those most asked for first."""
        routes: Routes = {}
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        for path in (model, version):
            routes[f"{path}/infer"] = {"POST": self._infer}
        routes |= {
            "/v2/health/live": {"GET": self._live},
            "/v2/health/ready": {"GET": self._ready},
            "/v2": {"GET": self._server},
            "/v2/models/stats": {"GET": self._statistics},
        }
        for path in (model, version):
            routes |= {
                path: {"GET": self._model},
                f"{path}/ready": {"GET": self._model_ready},
                f"{path}/config": {"GET": self._configuration},
                f"{path}/stats": {"GET": self._statistics},
            }
        repository = "/v2/repository"
        routes |= {
            f"{repository}/index": {"POST": self._index},
            f"{repository}/models/{{model}}/load": {"POST": self._load},
            f"{repository}/models/{{model}}/unload": {"POST": self._unload},
        }
        for path in NOT_OFFERED:
            routes[path] = {"GET": _not_offered, "POST": _not_offered}
        return routes

    def _infer(self, ask: Ask, body: bytes) -> None:
        name, version = ask.path["model"], ask.path.get("version", "")
        form = self._form(name)
        exchange = self._backend.exchange(form, METHOD, ask, ask.end)
        ask.on_cancel = exchange.cancel
        try:
            deadline = ask.deadline
            if exchange.refused(deadline):
                return
            if form.model is UNKNOWN:
                raise unknown(self._backend, name, version)
            request = read_request(name, version, body, _head_bytes(ask, body))
        except StatusError as error:
            exchange.finish(error)
        else:
            exchange.start(
                request,
                parameters.deadline(exchange.started, deadline, request.timeout),
                parameters.rank(request.priority),
            )

    def _form(self, model: str) -> InferForm:
        """The form for a model of the repository; for any other, one that has no more than a name for the metrics."""
        if model not in self._models.served:
            return InferForm(UNKNOWN)
        form = self._forms.get(model)
        if form is None:
            form = self._forms[model] = JsonForm(model)
        return form

    # Triton's clients look at the status, KServe's at the body.

    def _live(self, ask: Ask, _: bytes) -> None:
        ask.end(_json({"live": True}))

    def _ready(self, ask: Ask, _: bytes) -> None:
        if not self._is_ready():
            raise StatusError(Code.UNAVAILABLE, "not every model is ready; POST /v2/repository/index says which is not")
        ask.end(_json({"ready": True}))

    def _model_ready(self, ask: Ask, _: bytes) -> None:
        self._models.resolve(ask.path["model"], ask.path.get("version", ""))
        ask.end(_json({"name": ask.path["model"], "ready": True}))

    def _server(self, ask: Ask, _: bytes) -> None:
        ask.end(_json(about.server()))

    def _model(self, ask: Ask, _: bytes) -> None:
        ask.end(_json(about.model(self._models, ask.path["model"], ask.path.get("version", ""))))

    def _configuration(self, ask: Ask, _: bytes) -> None:
        model, version = ask.path["model"], ask.path.get("version", "")
        ask.end(_json(about.configuration(self._models, model, version, self._max_delay)))

    def _statistics(self, ask: Ask, _: bytes) -> None:
        wanted = about.wanted_statistics(self._models, ask.path.get("model", ""), ask.path.get("version", ""))
        self._management.statistics(wanted, lambda found: _end(ask, found, about.statistics))

    def _index(self, ask: Ask, body: bytes) -> None:
        ready = bool(body) and read(self._index_request, body).ready
        self._management.index(lambda found: _end(ask, found, lambda entries: about.index(entries, ready=ready)))

    def _load(self, ask: Ask, body: bytes) -> None:
        for parameter in read(self._empty, body).parameters if body else ():
            if parameter.startswith(_OVERRIDES):
                raise invalid(
                    f"parameters[{shown(parameter)}]: a model is served as it lies in the repository; "
                    "to serve another, put its package there"
                )
        self._management.load(ask.path["model"], lambda error: _end(ask, error, lambda _: {}))

    def _unload(self, ask: Ask, _: bytes) -> None:
        self._management.unload(ask.path["model"], lambda error: _end(ask, error, lambda _: {}))


NOT_OFFERED: Final = (
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
    "/v2/trace/setting",
    "/v2/models/{model}/trace/setting",
    "/v2/logging",
)
"""Paths of Triton's extensions that the server has not."""


def _not_offered(ask: Ask, _: bytes) -> None:
    raise StatusError(
        Code.UNIMPLEMENTED,
        "not offered: this server shares no memory with its clients, and its traces and logs are set where it is "
        "started; GET /v2 lists the extensions that it has",
    )


MAX_DIGITS = 19
"""Of a number of bytes: Python takes its time for very long ones, or refuses them."""


def _head_bytes(ask: Ask, body: bytes) -> int | None:
    given = ask.fields.get(HEAD_BYTES)
    if given is None:
        return None
    if not given.isdigit() or len(given) > MAX_DIGITS or int(given) > len(body):
        raise invalid(f"Inference-Header-Content-Length: expected a number of bytes up to the body's {len(body)}")
    return int(given)


def _json(found: Any) -> bytes:
    return msgspec.json.encode(found)


def _end(ask: Ask, found: Any, response: Callable[[Any], Any]) -> None:
    ask.end(found if isinstance(found, StatusError) else _json(response(found)))
