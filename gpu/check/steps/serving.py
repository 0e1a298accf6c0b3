"""A server on the device answers as one on the CPU does, through both APIs, and says where it runs."""

from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as oip

from gpu.check import golden
from gpu.check.asking import TIMEOUT, Asker, question
from gpu.check.context import Context
from gpu.check.finding import Finding, Table
from gpu.check.golden import Array, Tolerance
from gpu.check.server import Sample, Server
from serving.engine.device import CPU, CUDA
from serving.package.manifest import Manifest

MEMORY = "triptych_model_gpu_memory_bytes"


def run(context: Context, found: Finding) -> None:
    """Ask both servers everything."""
    manifests = [package.manifest for package in golden.packages(context.models)]
    provider = CPU if context.rehearsal else CUDA
    with (
        Server(context.device, context.models, context.out / "serving.log") as ours,
        Server("cpu", context.models, context.out / "serving-cpu.log") as theirs,
        grpc.insecure_channel(ours.wait_ready().address) as channel,
        grpc.insecure_channel(theirs.wait_ready().address) as other,
    ):
        here, there = Asker(channel), Asker(other)
        rows = [compared(found, manifest, here, there, not context.rehearsal) for manifest in manifests]
        columns = ("package", "golden, OIP", "beside CPU, OIP", "beside CPU, typed")
        note = "The largest difference as a share of the package's tolerance: above 1 fails."
        found.tables.append(Table(columns, rows, note))
        samples = ours.metrics()
        informed(found, samples, manifests, provider)
        if found.on_cuda("memory of the GPU in metrics, statistics and repository index; which GPU serves"):
            told(found, samples, manifests)
            _listed(found, here, manifests)


def compared(found: Finding, manifest: Manifest, here: Asker, there: Asker, on_cuda: bool) -> list[Any]:
    """One package's line: its answers beside the golden ones, and beside those of the other server."""
    name = f"{manifest.name} {manifest.version}"
    allowed, wanted = golden.tolerance(manifest, on_cuda), golden.expected(manifest)
    asked = question(manifest, manifest.golden.inputs, wanted)
    answers = here.infer(asked)
    shares = [_share(allowed, answers, wanted), _share(allowed, answers, there.infer(asked))]
    typed = here.typed(manifest)
    beside = there.typed(manifest)
    if typed is not None and beside is not None:
        shares.append(allowed.share(typed, beside))
    for what, share in zip(("the golden answers", "the CPU's", "the CPU's, typed"), shares, strict=False):
        found.expect(share <= 1, f"{name}: {share:.3g} of the tolerance from {what}")
    return [name, *shares, *["–"] * (3 - len(shares))]


def informed(found: Finding, samples: list[Sample], manifests: list[Manifest], provider: str) -> None:
    """`triptych_model_info` names the provider, of every version."""
    info = {
        (labels["model"], labels["version"]): labels["provider"]
        for name, labels, _ in samples
        if name == "triptych_model_info"
    }
    for manifest in manifests:
        says = info.get((manifest.name, str(manifest.version)))
        found.expect(says == provider, f"{manifest.name} {manifest.version}: triptych_model_info says {says}")
    found.figures["triptych_model_info"] = f"{provider}, {len(info)} versions"


def told(found: Finding, samples: list[Sample], manifests: list[Manifest]) -> None:
    """The metrics tell what each version takes of which GPU.

    The driver gives out pages of 2 MiB: a version that is smaller may have come into what another began.
    """
    memory = {(labels["model"], labels["version"]): value for name, labels, value in samples if name == MEMORY}
    for manifest in manifests:
        taken = memory.get((manifest.name, str(manifest.version)))
        if found.expect(taken is not None, f"{manifest.name} {manifest.version}: there is no {MEMORY}"):
            found.figures[f"GPU memory of {manifest.name} {manifest.version}, MiB"] = (taken or 0) / 2**20
    found.expect(sum(memory.values()) > 0, f"{MEMORY} is 0 for all versions")
    gpus = [labels for name, labels, _ in samples if name == "triptych_gpu_info"]
    found.expect(bool(gpus), "triptych_gpu_info names no GPU")
    found.figures["triptych_gpu_info"] = [labels.get("name", "") for labels in gpus]


def _listed(found: Finding, here: Asker, manifests: list[Manifest]) -> None:
    """The repository index and the statistics tell of memory as well."""
    index = here.inference.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=TIMEOUT).models
    reasons = {(entry.name, entry.version): entry.reason for entry in index}
    statistics = _statistics(here.inference.ModelStatistics)
    for manifest in manifests:
        version = (manifest.name, str(manifest.version))
        reason = reasons.get(version, "")
        found.expect("GPU" in reason or "cuda" in reason, f"{' '.join(version)}: the repository index says {reason!r}")
        found.expect(version in statistics, f"{' '.join(version)}: ModelStatistics tell of no GPU memory")
    found.expect(sum(statistics.values()) > 0, "the GPU memory in ModelStatistics is 0 for all versions")


def _statistics(call: Callable[..., Any]) -> dict[tuple[str, str], int]:
    """Bytes on GPUs by model and version."""
    stats = call(oip.ModelStatisticsRequest(), timeout=TIMEOUT).model_stats
    return {
        (one.name, one.version): sum(usages)
        for one in stats
        if (usages := [usage.byte_size for usage in one.memory_usage if usage.type == "GPU"])
    }


def _share(allowed: Tolerance, answers: list[Array], wanted: list[Array]) -> float:
    return max(allowed.share(one, other) for one, other in zip(answers, wanted, strict=True))
