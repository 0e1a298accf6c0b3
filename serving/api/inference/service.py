"""`inference.GRPCInferenceService`: the Open Inference Protocol v2 over gRPC, with Triton's extensions."""

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from serving.api.call import Call, Routes, Streaming, Unary
from serving.api.exchange import Backend
from serving.api.fields import LENGTH, VARINT, varint
from serving.api.inference import about
from serving.api.inference.asking import Asking, unreadable
from serving.api.inference.heads import Heads
from serving.api.inference.stream import InferStream
from serving.api.management import Management
from serving.repository.state import Entry
from serving.status import Code, StatusError, fault, invalid, shown
from serving.telemetry.statistics import Statistics

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE: str = _DESCRIPTOR.full_name

METHOD = "ModelInfer"

_FIELD_1 = bytes((1 << 3 | LENGTH,))
_FIELD_2_TRUE = bytes((2 << 3 | VARINT, 1))

_OVERRIDES = ("config", "file:")
"""Parameters of a load that bring what else lies in the folder."""


class InferenceService:
    """Answers the protocol's RPCs."""

    def __init__(self, backend: Backend, management: Management, max_delay: float = 0.0) -> None:
        """`max_delay`: seconds for which batches may wait for more rows, as the configuration tells it."""
        self.backend = backend
        self.management = management
        self._max_delay = max_delay
        self._heads = Heads()
        self._asking = Asking(backend, self._heads, streamed=False)
        self._streamed = Asking(backend, self._heads, streamed=True)

    def routes(self) -> Routes:
        """Every method of the service, those that are not offered included: they say so."""
        offered: dict[str, Callable[[Any], Any]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelConfig": self._configuration,
        }
        managed: dict[str, Callable[[Call, Any], None]] = {
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        routes: dict[str, Unary | Streaming] = {}
        for method in _DESCRIPTOR.methods:
            name = method.name
            request = _class(method.input_type)
            route: Unary | Streaming
            if name == METHOD:
                route = Unary(self._infer)
            elif method.client_streaming:
                route = Streaming(partial(InferStream, self.backend, self._streamed))
            elif name in offered:
                route = Unary(partial(_answer, offered[name], request))
            elif name in managed:
                route = Unary(partial(_manage, managed[name], request))
            else:
                route = Unary(partial(_not_offered, name))
            routes[f"/{SERVICE}/{name}"] = route
        return routes

    def _infer(self, call: Call, message: bytes) -> None:
        asked = self._asking.read(message)
        exchange = self.backend.exchange(asked.form, METHOD, call, call.end)
        call.on_cancel = exchange.cancel
        if not exchange.refused(call.deadline):
            self._asking.start(exchange, asked, call.deadline)

    def _live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def _ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=self.backend.models.all_ready and not self.backend.draining)

    def _model_ready(self, request: Any) -> Any:
        """Asked of what nobody knows, it is not ready: clients wait for a model so before it is there."""
        try:
            self.backend.models.resolve(request.name, request.version)
        except StatusError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self.backend.draining)

    def _server(self, _: Any) -> Any:
        return pb.ServerMetadataResponse(**about.server())

    def _model(self, request: Any) -> Any:
        return pb.ModelMetadataResponse(**about.model(self.backend.models, request.name, request.version))

    def _configuration(self, request: Any) -> Any:
        found = about.configuration(self.backend.models, request.name, request.version, self._max_delay)
        return pb.ModelConfigResponse(config=model_config_pb2.ModelConfig(**found))

    def _statistics(self, call: Call, request: Any) -> None:
        def done(found: list[Statistics] | StatusError) -> None:
            _end(call, found, lambda each: pb.ModelStatisticsResponse(**about.statistics(each)))

        self.management.statistics(about.wanted_statistics(self.backend.models, request.name, request.version), done)

    def _index(self, call: Call, request: Any) -> None:
        _check_repository(request.repository_name)

        def done(found: list[Entry] | StatusError) -> None:
            _end(call, found, lambda each: pb.RepositoryIndexResponse(models=about.index(each, ready=request.ready)))

        self.management.index(done)

    def _load(self, call: Call, request: Any) -> None:
        name = _model_name(request)
        for parameter in request.parameters:
            if parameter.startswith(_OVERRIDES):
                raise invalid(
                    f"parameters[{shown(parameter)}]: a model is served as it lies in the repository; "
                    "to serve another, put its package there"
                )
        self.management.load(name, lambda error: _end(call, error, lambda _: _done(request)))

    def _unload(self, call: Call, request: Any) -> None:
        name = _model_name(request)
        self.management.unload(name, lambda error: _end(call, error, lambda _: _done(request)))


def _answer(handle: Callable[[Any], Any], kind: Any, call: Call, message: bytes) -> None:
    """Answer at once."""
    try:
        call.reply(handle(kind.FromString(message)).SerializeToString())
    except DecodeError:
        call.fail(unreadable(kind))
    except StatusError as error:
        call.fail(error)
    except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
        call.fail(fault(call.method, error, call.ids()))


def _manage(handle: Callable[[Call, Any], None], kind: Any, call: Call, message: bytes) -> None:
    """Ask for what is answered later."""
    try:
        handle(call, kind.FromString(message))
    except DecodeError:
        call.fail(unreadable(kind))
    except StatusError as error:
        call.fail(error)
    except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
        call.fail(fault(call.method, error, call.ids()))


def _end(call: Call, found: Any, response: Callable[[Any], Any]) -> None:
    if isinstance(found, StatusError):
        call.fail(found)
        return
    try:
        call.reply(response(found).SerializeToString())
    except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
        call.fail(fault(call.method, error, call.ids()))


def _not_offered(name: str, call: Call, _: bytes) -> None:
    call.fail(
        StatusError(
            Code.UNIMPLEMENTED,
            f"{name} is not offered: this server shares no memory with its clients, and its traces and logs are set "
            "where it is started; ServerMetadata lists the extensions that it has",
        )
    )


def _model_name(request: Any) -> str:
    """The model to load or unload: KServe's clients write its name into the field that is Triton's repository name.

    Raises:
        StatusError: none, or one in a repository that this server has not.
    """
    if not request.model_name:
        if not request.repository_name:
            raise invalid("model_name: expected the name of a model, got none")
        return str(request.repository_name)
    _check_repository(request.repository_name)
    return str(request.model_name)


def _done(request: Any) -> Any:
    """Triton's answer is empty; KServe's clients read the model's name in field 1, and true in field 2."""
    response = pb.RepositoryModelLoadResponse()
    if not request.model_name:
        name = request.repository_name.encode()
        response.MergeFromString(b"".join((_FIELD_1, varint(len(name)), name, _FIELD_2_TRUE)))
    return response


def _check_repository(name: str) -> None:
    if name:
        raise StatusError(
            Code.NOT_FOUND,
            f"repository_name: {shown(name)} is not known; this server has one repository, without a name",
        )


def _class(descriptor: Any) -> Any:
    return getattr(pb, descriptor.name)
