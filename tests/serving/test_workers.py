"""Metrics of several workers, as one server's."""

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from serving.engine.device import CPU
from serving.metrics import Metrics
from serving.workers import merged


def counted(requests: int, rows: list[float], queued: int) -> Metrics:
    metrics = Metrics()
    version = metrics.served("topic", 1, CPU, "regression")
    metrics.readiness("topic", 1, ready=True)
    metrics.watch_queue("topic", lambda: queued)
    for _ in range(requests):
        metrics.answered("topic", "1", "PredictTopic", "OK", 0.001)
    for count in rows:
        version.rows.observe(count)
    return metrics


def test_counts_add_up_and_states_do_not() -> None:
    both = [list(counted(3, [1, 5], 7).instruments.collect()), list(counted(4, [5], 2).instruments.collect())]
    values = {
        (sample.name, sample.labels.get("le"), sample.labels.get("code")): sample.value
        for metric in merged(both)
        for sample in metric.samples
    }
    assert values["triptych_requests_total", None, "OK"] == 7
    assert values["triptych_queue_rows", None, None] == 9
    assert values["triptych_batch_rows_bucket", "1.0", None] == 1
    assert values["triptych_batch_rows_bucket", "8.0", None] == 3
    assert values["triptych_batch_rows_sum", None, None] == 11
    assert values["triptych_model_ready", None, None] == 1
    assert values["triptych_model_info", None, None] == 1


def test_processes_add_up_as_far_as_it_makes_sense() -> None:
    def process(seconds: float, began: float) -> list[Metric]:
        cpu = CounterMetricFamily("process_cpu_seconds_total", "CPU.", value=seconds)
        start = GaugeMetricFamily("process_start_time_seconds", "Start.", value=began)
        info = GaugeMetricFamily("python_info", "Python.", labels=["version"])
        info.add_metric(["3.11"], 1)
        return [cpu, start, info]

    merged = list(merged([process(1.5, 100), process(2, 90), process(0, 110)]))
    values = {sample.name: sample.value for metric in merged for sample in metric.samples}
    assert values == {"process_cpu_seconds_total": 3.5, "process_start_time_seconds": 90, "python_info": 1}


def test_a_worker_that_said_nothing_takes_nothing_away() -> None:
    one = list(counted(3, [], 0).instruments.collect())
    assert [m.samples for m in merged([one, []])] == [m.samples for m in _merged([one])]
