"""The metrics are a promise to dashboards and alerts: their names, types, labels and buckets."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.engine.batcher import Batch, Execution
from serving.engine.device import CPU
from serving.engine.request import Request
from serving.telemetry.container import NAME as MEMORY_LIMIT
from serving.telemetry.metrics import LOAD_OUTCOMES, REASONS, REJECTIONS, Metrics
from serving.telemetry.statistics import Statistics
from tests.serving.packages import value

VERSION = {"model", "version"}

PROMISED = {
    "triptych_requests": ("counter", VERSION | {"method", "code"}),
    "triptych_request_duration_seconds": ("histogram", VERSION | {"method"}),
    "triptych_queue_duration_seconds": ("histogram", VERSION),
    "triptych_execution_duration_seconds": ("histogram", VERSION),
    "triptych_batch_rows": ("histogram", VERSION),
    "triptych_batches": ("counter", VERSION | {"reason"}),
    "triptych_queue_rows": ("gauge", {"model"}),
    "triptych_requests_in_flight": ("gauge", {"model"}),
    "triptych_rejected": ("counter", {"model", "reason"}),
    "triptych_model_gpu_memory_bytes": ("gauge", VERSION | {"gpu"}),
    "triptych_model_info": ("gauge", VERSION | {"provider", "task"}),
    "triptych_model_ready": ("gauge", VERSION),
    "triptych_device_info": ("gauge", {"asked", "provider"}),
    "triptych_ready": ("gauge", set()),
    "triptych_model_failures": ("counter", VERSION),
    "triptych_models_folder_found": ("gauge", set()),
    "triptych_hangs": ("counter", {"what"}),
    "triptych_model_loads": ("counter", {"model", "outcome"}),
    "triptych_file_reloads": ("counter", {"what", "outcome"}),
    "triptych_tls_certificate_expiry_timestamp_seconds": ("gauge", set()),
    "triptych_known_words_ratio": ("histogram", {"model"}),
    "triptych_shadow_rows": ("counter", {"model", "version", "candidate", "outcome"}),
    "triptych_shadow_difference": ("histogram", {"model", "version", "candidate"}),
}
"""Type and labels of every metric, as the parser names them: a counter without its `_total`."""


@pytest.fixture
def metrics() -> Metrics:
    """Each metric with a sample."""
    metrics = Metrics()
    version = metrics.served("topic", 2, CPU, "regression", {0: 5_000_000, 1: 6_000_000})
    metrics.device("auto", CPU)
    metrics.loaded("topic", "ready")
    metrics.readiness("topic", 2, ready=True)
    metrics.answered("topic", "2", "PredictTopic", "OK", 0.003)
    metrics.watch_queue("topic", lambda: 17)
    request = Request([[]], 3, 30, 0.0, lambda *_: None)
    version.pulled(request, 0.0002)
    version.ran(Batch([(request, 0, 3)], 3, 30, "full"), Execution([], 0.0, 0.001))
    version.in_flight.inc()
    version.known_words.observe(0.9)
    metrics.reloaded("tls", loaded=True)
    metrics.certificate_expires(1.8e9)
    metrics.shadow("topic", "2", "3").difference.observe(0.5)
    return metrics


def exposed(metrics: Metrics) -> dict[str, tuple[str, set[str]]]:
    text = generate_latest(metrics.registry).decode()
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in text_string_to_metric_families(text)
        if family.name.startswith("triptych_") and family.name != MEMORY_LIMIT  # there may be none here
    }


def test_names_types_and_labels_are_those_promised(metrics: Metrics) -> None:
    assert exposed(metrics) == PROMISED


def test_counters_end_in_total_and_nothing_tells_when_it_was_made(metrics: Metrics) -> None:
    names = {sample.name for metric in metrics.registry.collect() for sample in metric.samples}
    for name, (kind, _) in PROMISED.items():
        assert (f"{name}_total" in names) is (kind == "counter")
    assert not [name for name in names if name.endswith("_created")]


def test_every_metric_has_a_help_text(metrics: Metrics) -> None:
    for metric in metrics.registry.collect():
        assert metric.documentation


@pytest.mark.parametrize("name", [name for name, (kind, _) in PROMISED.items() if name.endswith("_duration_seconds")])
def test_times_have_buckets_from_50_microseconds_to_10_seconds(metrics: Metrics, name: str) -> None:
    bounds = [
        float(sample.labels["le"])
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == f"{name}_bucket"
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] == 50e-6
    assert bounds[-2] == 10.0


def test_what_happened_is_what_is_counted(metrics: Metrics) -> None:
    version = {"model": "topic", "version": "2"}
    assert value(metrics, "triptych_requests_total", **version, method="PredictTopic", code="OK") == 1
    assert value(metrics, "triptych_request_duration_seconds_sum", **version, method="PredictTopic") == 0.003
    assert value(metrics, "triptych_queue_duration_seconds_bucket", **version, le="0.0001") == 0
    assert value(metrics, "triptych_queue_duration_seconds_bucket", **version, le="0.00025") == 1
    assert value(metrics, "triptych_execution_duration_seconds_sum", **version) == 0.001
    assert value(metrics, "triptych_batch_rows_sum", **version) == 3
    assert value(metrics, "triptych_batches_total", **version, reason="full") == 1
    assert value(metrics, "triptych_queue_rows", model="topic") == 17
    assert value(metrics, "triptych_requests_in_flight", model="topic") == 1
    assert value(metrics, "triptych_model_info", **version, provider=CPU, task="regression") == 1
    assert value(metrics, "triptych_model_ready", **version) == 1


def test_files_that_are_watched_are_counted_from_zero(metrics: Metrics) -> None:
    def counted(outcome: str) -> float | None:
        return value(metrics, "triptych_file_reloads_total", what="tokens", outcome=outcome)

    metrics.watches("tokens")
    assert (counted("loaded"), counted("refused")) == (0, 0)
    metrics.reloaded("tokens", loaded=False)
    assert (counted("loaded"), counted("refused")) == (0, 1)


def test_readiness_is_what_it_is_when_asked(metrics: Metrics) -> None:
    answers: list[bool | None] = [None, True, False]
    metrics.watch_ready(lambda: answers.pop())
    assert [value(metrics, "triptych_ready") for _ in range(3)] == [0, 1, 0]


def test_what_may_happen_is_there_with_zero_before_it_happens(metrics: Metrics) -> None:
    for reason in set(REASONS) - {"full"}:
        assert value(metrics, "triptych_batches_total", model="topic", version="2", reason=reason) == 0
    for reason in REJECTIONS:
        assert value(metrics, "triptych_rejected_total", model="topic", reason=reason) == 0
    for outcome in set(LOAD_OUTCOMES) - {"ready"}:
        assert value(metrics, "triptych_model_loads_total", model="topic", outcome=outcome) == 0
    labels = {"model": "topic", "version": "2", "method": "PredictTopic"}
    assert value(metrics, "triptych_requests_total", **labels, code="INTERNAL") == 0


def test_the_words_of_the_labels_are_those_promised() -> None:
    assert set(REASONS) == {"full", "idle", "delay", "deadline", "drain"}
    assert set(LOAD_OUTCOMES) == {"ready", "checksum", "checker", "signature", "golden", "load_error"}
    assert set(REJECTIONS) == {
        *("queue_full", "too_late", "expired", "cancelled", "invalid", "draining", "unauthorised", "client_limit")
    }


def test_a_version_that_fails_after_it_was_ready_is_not_ready(metrics: Metrics) -> None:
    metrics.loaded("topic", "checksum")
    metrics.readiness("topic", 2, ready=False)
    assert value(metrics, "triptych_model_ready", model="topic", version="2") == 0
    assert value(metrics, "triptych_model_loads_total", model="topic", outcome="ready") == 1
    assert value(metrics, "triptych_model_loads_total", model="topic", outcome="checksum") == 1


def test_a_version_that_is_gone_goes_on_counting_when_it_comes_again(metrics: Metrics) -> None:
    batches = value(metrics, "triptych_batches_total", model="topic", version="2", reason="full")
    metrics.unlisted("topic", "2", CPU, "regression")
    metrics.removed("topic", 2)
    metrics.gone("topic", "2")
    assert value(metrics, "triptych_model_info", model="topic", version="2", provider=CPU, task="regression") is None
    assert value(metrics, "triptych_model_ready", model="topic", version="2") is None
    assert value(metrics, "triptych_model_gpu_memory_bytes", model="topic", version="2", gpu="0") is None
    assert metrics.statistics("topic", "2").gpu_memory == {}
    metrics.served("topic", 2, CPU, "regression")
    assert value(metrics, "triptych_batches_total", model="topic", version="2", reason="full") == batches


def test_of_many_versions_that_are_gone_the_last_few_are_shown(metrics: Metrics) -> None:
    answers = metrics.answers

    def lines() -> int:
        return len(generate_latest(metrics.registry).splitlines())

    for version in range(3, 100):
        metrics.served("topic", version, CPU, "regression").ran(
            Batch([], version, 30, "full"), Execution([], 0.0, 0.001)
        )
        metrics.answered("topic", str(version), "PredictTopic", "OK", 0.003)
        metrics.shadow("topic", str(version), str(version + 1))
        metrics.unlisted("topic", str(version), CPU, "regression")
        metrics.gone("topic", str(version))
        if version == 10:
            some = lines()
    assert lines() <= some + 10
    assert metrics.answers == answers + 97
    assert metrics.statistics("topic", "3") == Statistics("topic", "3")
    assert metrics.statistics("topic", "99").rows == 99


def test_statistics_are_what_was_counted(metrics: Metrics) -> None:
    found = metrics.statistics("topic", "2")
    assert found.gpu_memory == {0: 5_000_000, 1: 6_000_000}
    assert value(metrics, "triptych_model_gpu_memory_bytes", model="topic", version="2", gpu="1") == 6_000_000
    assert found.rows == value(metrics, "triptych_batch_rows_sum", model="topic", version="2")
    assert found.execution.count == value(
        metrics, "triptych_execution_duration_seconds_count", model="topic", version="2"
    )
    assert found.queue.count == value(metrics, "triptych_queue_duration_seconds_count", model="topic", version="2")
    assert sum(tally.count for tally in found.by_rows.values()) == found.execution.count
    assert sum(rows * tally.count for rows, tally in found.by_rows.items()) == found.rows
    answered = found.success.count + found.fail.count
    assert answered == sum(
        sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "triptych_requests_total"
        and (sample.labels["model"], sample.labels["version"]) == ("topic", "2")
    )
    assert metrics.statistics("topic", "7") == Statistics("topic", "7")


def test_answers_are_counted_over_all_models(metrics: Metrics) -> None:
    metrics.answered("house_price", "1", "PredictStream", "OK", 0.1)
    metrics.answered("house_price", "1", "PredictStream", "NOT_FOUND", 0.1)
    assert metrics.answers == 2


def test_process_and_python_have_their_own(metrics: Metrics) -> None:
    names = {metric.name for metric in metrics.registry.collect()}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "python_info", "python_gc_collections"} <= names


def test_two_servers_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics()
    other.rejected("topic", "invalid")
    assert value(metrics, "triptych_rejected_total", model="topic", reason="invalid") == 0
