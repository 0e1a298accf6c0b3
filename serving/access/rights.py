"""What each RPC and each path needs: a scope, and the models that a request names.

What is not named here needs `predict`, so that nothing new is open by oversight. Health is: probes have no tokens.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from protos.prediction.v1 import prediction_pb2
from serving.access.tokens import MANAGE, PREDICT
from serving.api.call import ANY
from serving.api.fields import LENGTH, fields
from serving.api.health import SERVICE as HEALTH
from serving.api.inference.outline import MAX_FIELDS
from serving.api.inference.service import SERVICE as INFERENCE
from serving.api.prediction import SERVICE as PREDICTION
from serving.api.tasks import TASKS
from serving.status import invalid

Scopes = frozenset[str]
"""Of which one is enough."""

Named = Callable[[bytes], str | None]
"""The model that a message names; empty where it asks of all, None where of none."""

LOAD: Final = "RepositoryModelLoad"
UNLOAD: Final = "RepositoryModelUnload"
INDEX: Final = "RepositoryIndex"

_GROUPS: Final = (3, 4)
"""Wire types of a group's ends."""

_OPEN: Final = {
    ANY,  # it answers nothing
    *(f"/{HEALTH}/{method}" for method in ("Check", "Watch")),
    *(f"/{INFERENCE}/{method}" for method in ("ServerLive", "ServerReady")),
    *("/v2/health/live", "/v2/health/ready"),
}
_REPOSITORY: Final = "/v2/repository"
_MANAGE: Final = {
    *(f"/{INFERENCE}/{method}" for method in (LOAD, UNLOAD)),
    *(f"{_REPOSITORY}/models/{{model}}/{verb}" for verb in ("load", "unload")),
}
_EITHER: Final = {f"/{INFERENCE}/{INDEX}", f"{_REPOSITORY}/index"}


def needed(route: str) -> Scopes | None:
    """The scopes of which an RPC, by its full name, or a path, with its variable parts in braces, needs one.

    None: anybody may ask.
    """
    if route in _OPEN:
        return None
    if route in _MANAGE:
        return frozenset((MANAGE,))
    return frozenset((PREDICT, MANAGE)) if route in _EITHER else frozenset((PREDICT,))


def managing(route: str) -> bool:
    """Is it of use to who manages models, and harmless to others?"""
    scopes = needed(route)
    return scopes is None or MANAGE in scopes


def manages(route: str) -> bool:
    """Does it change what is served?"""
    return route in _MANAGE


def names(method: str) -> Named:
    """What tells the model that a message of an RPC names."""
    service, _, name = method.removeprefix("/").partition("/")
    if service == PREDICTION:
        models = {task.method: task.model for task in TASKS}
        return _always(models[name]) if name in models else _streamed
    if service == INFERENCE:
        return _INFERENCE.get(name, _never)
    return _never


def path_model(path: str) -> str | None:
    """As `names`, of a path without a model of its own in it."""
    typed = path.removeprefix("/v1/").replace("-", "_")
    if path.startswith("/v1/"):
        return next((task.model for task in TASKS if task.model == typed), None)
    return "" if path in ("/v2/models/stats", f"{_REPOSITORY}/index") else None


def _never(_: bytes) -> str | None:
    return None


def _always(model: str) -> Named:
    return lambda _: model


def _last(message: bytes, tags: Collection[int]) -> dict[int, bytes]:
    """What stands in each of these fields: the last counts, and they are in the order of that.

    Parsed it is only behind the gate, where it is known how much there may be of it (`serving.api.inference.outline`,
    `serving.api.instances`); what no parser takes is refused there, too, whatever it names here.

    Raises:
        StatusError: INVALID_ARGUMENT, for what might be read in another way there: no request has groups.
    """
    found: dict[int, bytes] = {}
    for count, (tag, start, stop) in enumerate(fields(message, 0, len(message))):
        if count == MAX_FIELDS or tag & 7 in _GROUPS:
            raise invalid(f"the message has groups, or more than {MAX_FIELDS} fields")
        if tag in tags:
            found.pop(tag, None)
            found[tag] = message[start:stop]
    return found


def _tag(kind: Any, field: str) -> int:
    return int(kind.DESCRIPTOR.fields_by_name[field].number << 3 | LENGTH)


_TASKS: Final = {_tag(prediction_pb2.PredictStreamRequest, task.model): task.model for task in TASKS}


def _streamed(message: bytes) -> str | None:
    found = _last(message, _TASKS)
    return _TASKS[next(reversed(found))] if found else None


def _field(kind: Any, *names: str) -> Named:
    tags = [_tag(kind, name) for name in names]

    def read(message: bytes) -> str | None:
        found = _last(message, tags)
        return next((name.decode("utf-8", "replace") for tag in tags if (name := found.get(tag))), "")

    return read


_INFERENCE: Final[dict[str, Named]] = {
    "ModelInfer": _field(pb.ModelInferRequest, "model_name"),
    "ModelStreamInfer": _field(pb.ModelInferRequest, "model_name"),
    "ModelReady": _field(pb.ModelReadyRequest, "name"),
    "ModelMetadata": _field(pb.ModelMetadataRequest, "name"),
    "ModelConfig": _field(pb.ModelConfigRequest, "name"),
    "ModelStatistics": _field(pb.ModelStatisticsRequest, "name"),
    INDEX: _field(pb.RepositoryIndexRequest),
    LOAD: _field(pb.RepositoryModelLoadRequest, "model_name", "repository_name"),
    UNLOAD: _field(pb.RepositoryModelUnloadRequest, "model_name", "repository_name"),
}
