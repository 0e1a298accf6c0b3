"""What ModelInfer and the items of ModelStreamInfer have in common: how a message becomes an exchange."""

from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from serving.api.exchange import Backend, Exchange
from serving.api.inference import outline, parameters
from serving.api.inference.form import InferForm, InferRequest
from serving.api.inference.heads import Heads, Quick
from serving.api.inference.messages import Manner, read, write
from serving.api.instances import SMALL_MESSAGE
from serving.engine.request import Outputs, Rows
from serving.repository.version import Version
from serving.status import StatusError, invalid
from serving.telemetry.metrics import UNKNOWN


class Asked(NamedTuple):
    """A message that was read."""

    form: InferForm
    id: str | bytes
    request: InferRequest | Quick | StatusError
    """What it asks, or what is wrong with it."""
    timeout: int = 0
    priority: int = 0


class Asking:
    """Reads messages and starts their exchanges: quickly where the like was read before, else with a parser."""

    def __init__(self, backend: Backend, heads: Heads, *, streamed: bool) -> None:
        self._backend = backend
        self._heads = heads
        self._streamed = streamed
        self._forms: dict[str, InferForm] = {}

    def read(self, message: bytes) -> Asked:
        """What a message asks."""
        found = self._heads.find(message, self._backend.models, streamed=self._streamed)
        if found is not None:
            head, quick = found
            return Asked(head, quick.id, quick, head.timeout, head.priority)
        if len(message) > SMALL_MESSAGE:
            much = outline.check(message, self._backend.models.max_rows)
            if much is not None:
                return Asked(self._form(much.model), much.id, much.error)
        try:
            parsed = pb.ModelInferRequest.FromString(message)
        except DecodeError:
            return Asked(self._form(""), "", unreadable(pb.ModelInferRequest))
        form = self._form(parsed.model_name)
        try:
            if form.model is UNKNOWN:
                raise unknown(self._backend, parsed.model_name, parsed.model_version)
            request = read(parsed, message, streamed=self._streamed)
        except StatusError as error:
            return Asked(form, parsed.id, error)
        return Asked(form, request.id, request, request.timeout, request.priority)

    def start(self, exchange: Exchange, asked: Asked, deadline: float) -> None:
        """Start the exchange that was made for a message; `deadline` is the call's own."""
        if isinstance(asked.request, StatusError):
            exchange.finish(asked.request)
            return
        exchange.start(
            asked.request,
            parameters.deadline(exchange.started, deadline, asked.timeout),
            parameters.rank(asked.priority),
        )

    def _form(self, model: str) -> InferForm:
        """The form for a model of the repository; for any other, one that has no more than a name for the metrics."""
        if model not in self._backend.models.served:
            return InferForm(UNKNOWN)
        form = self._forms.get(model)
        if form is None:
            form = self._forms[model] = _Form(model, self._heads)
        return form


def unknown(backend: Backend, model: str, version: str) -> StatusError:
    """Why a model that is not served does not answer."""
    try:
        backend.models.resolve(model, version)
    except StatusError as error:
        return error
    raise AssertionError("unreachable: what answers is served")


def unreadable(kind: Any) -> StatusError:
    """INVALID_ARGUMENT for a message that is none of its kind."""
    return invalid(f"the message can't be read as {kind.DESCRIPTOR.full_name}: not of this type, or text not UTF-8")


class _Form(InferForm):
    """Answers with a serialised ModelInferResponse, and learns what good requests look like."""

    __slots__ = ("_heads",)

    def __init__(self, model: str, heads: Heads) -> None:
        super().__init__(model)
        self._heads = heads

    def encode(self, request: InferRequest, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        shapes = [tensor.shape for tensor in request.inputs]
        rows, count, size = super().encode(request, version, max_words)
        self._heads.learn(request, version, count, shapes[0])
        request.carried.message = b""
        return rows, count, size

    def respond(self, request: InferRequest, version: Version, outputs: Outputs) -> bytes:
        manner: Manner = request.carried
        return write(super().respond(request, version, outputs), raw=manner.raw, streamed=manner.streamed)
