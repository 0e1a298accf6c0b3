"""What the protocol tells of the server and its models, in the words of its JSON: all derived, nothing written by hand.

Open Inference Protocol v2, "Server Metadata" and "Model Metadata"; Triton's extensions "model configuration" and
"statistics", whose JSON has the fields of its protobuf messages.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any, Final

from serving import __version__
from serving.api.inference.parameters import DEFAULT, LOWEST
from serving.package.manifest import InputSpec, OutputSpec
from serving.repository.models import Models
from serving.repository.state import Entry
from serving.repository.version import Version
from serving.telemetry.statistics import Statistics, Tally

NAME: Final = "triptych"

EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""Triton's, as far as they are offered."""

PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"

_JSON = dict[str, Any]


def server() -> _JSON:
    """ServerMetadataResponse."""
    return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model(models: Models, name: str, wanted: str) -> _JSON:
    """ModelMetadataResponse: shapes have -1 for the batch.

    An input of one element a row, [-1], is told as [-1, 1]. Both are taken; but Triton knows no model of a batch
    without further dimensions, and perf_analyzer refuses to ask one.

    Raises:
        StatusError: what `Models.resolve` raises.
    """
    version = models.resolve(name, wanted)
    manifest = version.manifest

    def told(spec: InputSpec | OutputSpec, shape: Sequence[int]) -> _JSON:
        return {"name": spec.name, "datatype": spec.datatype, "shape": list(shape)}

    return {
        "name": name,
        "versions": [str(number) for number in sorted(models.served[name])],
        "platform": PLATFORM,
        "inputs": [told(spec, (-1, *_sizes(spec))) for spec in manifest.inputs],
        "outputs": [told(spec, spec.shape) for spec in manifest.outputs],
    }


def configuration(models: Models, name: str, wanted: str, max_delay: float = 0.0) -> _JSON:
    """ModelConfig: dimensions go without the batch; an input that is nothing else has one more, as in the metadata.

    Args:
        models: those that are served.
        name: of the model.
        wanted: version, as in a request.
        max_delay: seconds for which a batch may wait for more rows.

    Raises:
        StatusError: what `Models.resolve` raises.
    """
    version = models.resolve(name, wanted)
    manifest = version.manifest
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": sorted(models.served[name])}},
        "max_batch_size": version.batch_rows,
        "input": [
            _dimensions(spec, _sizes(spec)) | ({} if spec.shape[1:] else {"reshape": {"shape": []}})
            for spec in manifest.inputs
        ],
        "output": [_dimensions(spec, spec.shape[1:]) for spec in manifest.outputs],
        "instance_group": [{"name": f"{name}_0", "count": 1, **_place(version)}],
        "default_model_filename": "model.onnx",
        "dynamic_batching": {
            "max_queue_delay_microseconds": round(max_delay * 1e6),
            "priority_levels": LOWEST,
            "default_priority_level": DEFAULT,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "allow_timeout_override": True,
                "max_queue_size": models.max_rows,
            },
        },
        "model_transaction_policy": {"decoupled": False},
    }


def wanted_statistics(models: Models, name: str, wanted: str) -> dict[str, list[str]]:
    """The versions, by model, that a request for statistics means: all, all of one model, or one.

    Raises:
        StatusError: what `Models.resolve` raises.
    """
    if not name:
        return {model: _numbers(versions) for model, versions in models.served.items() if versions}
    version: Version = models.resolve(name, wanted)
    return {name: [version.label] if wanted else _numbers(models.served[name])}


def statistics(found: Sequence[Statistics]) -> _JSON:
    """ModelStatisticsResponse.

    Triton counts the time of a batch once for each request in it. Here batches are known by their rows: a request of
    several is taken to have the model's average number of them.
    """
    return {"model_stats": [_of_version(each) for each in found]}


def index(entries: Sequence[Entry], *, ready: bool) -> list[_JSON]:
    """RepositoryIndexResponse's models: all, or those that are ready only."""
    return [
        {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in entries
        if entry.state == "READY" or not ready
    ]


def _numbers(versions: Collection[int]) -> list[str]:
    return [str(number) for number in sorted(versions)]


def _place(version: Version) -> _JSON:
    """Where each of its instances is."""
    if "CUDA" in version.provider:
        return {"kind": "KIND_GPU", "gpus": sorted(version.gpu_memory)}
    return {"kind": "KIND_CPU"}


def _sizes(spec: InputSpec) -> Sequence[int]:
    return spec.shape[1:] or (1,)


def _dimensions(spec: InputSpec | OutputSpec, sizes: Sequence[int]) -> _JSON:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(sizes)}


def _of_version(found: Statistics) -> _JSON:
    requests = found.success.count
    nothing = _duration(requests, 0.0)
    computed = sum(rows * tally.seconds for rows, tally in found.by_rows.items())
    return {
        "name": found.model,
        "version": found.version,
        "last_inference": _epoch_milliseconds(found.last),
        "inference_count": found.rows,
        "execution_count": found.execution.count,
        "inference_stats": {
            "success": _tally(found.success),
            "fail": _tally(found.fail),
            "queue": _tally(found.queue),
            "compute_input": nothing,
            "compute_infer": _duration(requests, computed * requests / found.rows if found.rows else 0.0),
            "compute_output": nothing,
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(tally.count, 0.0),
                "compute_infer": _tally(tally),
                "compute_output": _duration(tally.count, 0.0),
            }
            for rows, tally in sorted(found.by_rows.items())
        ],
        "memory_usage": [
            {"type": "GPU", "id": gpu, "byte_size": taken} for gpu, taken in sorted(found.gpu_memory.items())
        ],
    }


def _tally(tally: Tally) -> _JSON:
    return _duration(tally.count, tally.seconds)


def _duration(count: int, seconds: float) -> _JSON:
    return {"count": count, "ns": round(seconds * 1e9)}


def _epoch_milliseconds(monotonic: float) -> int:
    return round((time.time() - time.monotonic() + monotonic) * 1000) if monotonic else 0
