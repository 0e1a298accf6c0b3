"""What the server's own metrics say about a stretch of time: the difference of two scrapes."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.stats import ratio

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Batching:
    """How the requests of one model were batched, and what that took; NaN where there was nothing."""

    batches: int
    mean_rows: float
    reasons: dict[str, int]
    """Batches by why they left."""
    mean_queue_seconds: float
    mean_execution_seconds: float
    """Of a batch."""
    mean_request_seconds: float
    """From arrival to answer, the transport's part left out."""


def parse(text: str) -> Samples:
    """Every sample of a scrape by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def batching(before: Samples, after: Samples, model: str) -> Batching:
    """What happened to `model` between two scrapes."""
    sums: dict[str, float] = defaultdict(float)
    reasons: dict[str, int] = {}
    for key, value in after.items():
        name, labels = key[0], dict(key[1])
        if labels.get("model") != model:
            continue
        change = value - before.get(key, 0.0)
        sums[name] += change
        if name == "triptych_batches_total" and change:
            reasons[labels["reason"]] = reasons.get(labels["reason"], 0) + int(change)

    def mean(name: str) -> float:
        return ratio(sums[f"{name}_sum"], sums[f"{name}_count"])

    return Batching(
        batches=int(sums["triptych_batches_total"]),
        mean_rows=mean("triptych_batch_rows"),
        reasons=reasons,
        mean_queue_seconds=mean("triptych_queue_duration_seconds"),
        mean_execution_seconds=mean("triptych_execution_duration_seconds"),
        mean_request_seconds=mean("triptych_request_duration_seconds"),
    )


def provider(samples: Samples) -> str:
    """The ONNX Runtime provider that the models run on."""
    found = {dict(labels)["provider"] for name, labels in samples if name == "triptych_model_info"}
    return ", ".join(sorted(found))
