"""Several workers as one fleet: all of them change or none, and what they counted adds up."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from serving.engine.device import CPU, CUDA
from serving.fleet.line import Answer, Line
from serving.fleet.worker import COMMIT, METRICS, PREPARE, STARTED, STATISTICS, Refused
from serving.fleet.workers import Workers, merged
from serving.repository.control import Control
from serving.repository.disk import LoadError
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Prepared
from serving.telemetry.metrics import Metrics
from serving.telemetry.statistics import Statistics, Tally


def counted(requests: int, rows: list[float], queued: int) -> Metrics:
    metrics = Metrics()
    version = metrics.served("topic", 1, CPU, "regression")
    metrics.watch_queue("topic", lambda: queued)
    for _ in range(requests):
        metrics.answered("topic", "1", "PredictTopic", "OK", 0.001)
    for count in rows:
        version.rows.observe(count)
    return metrics


def test_what_workers_share_is_not_added_and_one_that_is_not_ready_counts() -> None:
    def one(ready: bool, computing: float) -> list[Metric]:
        metrics = Metrics()
        metrics.device("cuda", CUDA)
        metrics.watch_ready(lambda: ready)
        gauge = GaugeMetricFamily("triptych_gpu_utilization_ratio", "…", labels=("gpu",))
        gauge.add_metric(("0",), computing)
        return [*metrics.instruments.collect(), gauge]

    both = merged([one(True, 0.6), one(False, 0.7)])
    values = {sample.name: sample.value for metric in both for sample in metric.samples}
    assert values["triptych_device_info"] == 1
    assert values["triptych_gpu_utilization_ratio"] == 0.7
    assert values["triptych_ready"] == 0


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
    assert values["triptych_model_info", None, None] == 1


def test_processes_add_up_as_far_as_it_makes_sense() -> None:
    def process(seconds: float, began: float) -> list[Metric]:
        cpu = CounterMetricFamily("process_cpu_seconds_total", "CPU.", value=seconds)
        start = GaugeMetricFamily("process_start_time_seconds", "Start.", value=began)
        info = GaugeMetricFamily("python_info", "Python.", labels=["version"])
        info.add_metric(["3.11"], 1)
        return [cpu, start, info]

    together = list(merged([process(1.5, 100), process(2, 90), process(0, 110)]))
    values = {sample.name: sample.value for metric in together for sample in metric.samples}
    assert values == {"process_cpu_seconds_total": 3.5, "process_start_time_seconds": 90, "python_info": 1}


def test_a_worker_that_said_nothing_takes_nothing_away() -> None:
    one = list(counted(3, [], 0).instruments.collect())
    assert [m.samples for m in merged([one, []])] == [m.samples for m in merged([one])]


class FakeWorker:
    """The other end of a line, in this process."""

    def __init__(self, answers: dict[str, Any]) -> None:
        ours, theirs = multiprocessing.Pipe()
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        self._theirs = theirs
        self.line = Line(ours, lambda *_: None, "ours")
        self._line = Line(theirs, self._answer, "theirs")

    def _answer(self, what: str, argument: Any, answer: Answer) -> None:
        self.asked.append((what, argument))
        if what in self.answers:
            found = self.answers[what]
            answer(found(argument) if callable(found) else found)
        else:
            self.die()

    def die(self) -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._theirs.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


def total(workers: Workers, name: str) -> float:
    samples = [sample for metric in merged(workers.scrape()) for sample in metric.samples if sample.name == name]
    return sum(sample.value for sample in samples)


def test_what_the_dead_counted_is_not_lost(ended: list[FakeWorker]) -> None:
    def answer(requests: int) -> dict[str, Any]:
        return {METRICS: list(counted(requests, [1, 5], 7).instruments.collect())}

    workers, fakes = fleet(answer(3), answer(4))
    ended += fakes
    assert total(workers, "triptych_requests_total") == 7
    for _ in range(2):
        fakes[0].die()
        fakes[0].line.wait_until_ended()
        workers.remove(fakes[0].line)
    assert total(workers, "triptych_requests_total") == 7
    assert total(workers, "triptych_batch_rows_count") == 4
    assert total(workers, "triptych_queue_rows") == 7, "what it had waiting is"
    fresh = FakeWorker(answer(1))
    ended.append(fresh)
    workers.add(fresh.line)
    assert total(workers, "triptych_requests_total") == 8


WANTED = Wanted("models/topic/2", "topic", 2)
PREPARED = Prepared("digest", fresh=True)


def fleet(*answers: dict[str, Any]) -> tuple[Workers, list[FakeWorker]]:
    workers, fakes = Workers(), [FakeWorker(each) for each in answers]
    for fake in fakes:
        workers.add(fake.line)
    return workers, fakes


@pytest.fixture
def ended() -> Iterator[list[FakeWorker]]:
    fakes: list[FakeWorker] = []
    yield fakes
    for fake in fakes:
        fake.die()
        fake.line.wait_until_ended()


def test_a_version_is_prepared_by_all(ended: list[FakeWorker]) -> None:
    workers, fakes = fleet({PREPARE: PREPARED}, {PREPARE: Prepared("digest", fresh=False)})
    ended += fakes
    assert workers.prepare(WANTED) == PREPARED
    assert [fake.asked for fake in fakes] == [[(PREPARE, WANTED)]] * 2


def test_one_that_refuses_refuses_for_all(ended: list[FakeWorker]) -> None:
    workers, fakes = fleet({PREPARE: PREPARED}, {PREPARE: Refused("golden", "it is wrong here")})
    ended += fakes
    with pytest.raises(LoadError, match="it is wrong here") as caught:
        workers.prepare(WANTED)
    assert caught.value.outcome == "golden"


def test_one_that_dies_meanwhile_does_not_count(ended: list[FakeWorker]) -> None:
    workers, fakes = fleet({PREPARE: PREPARED, COMMIT: None}, {})
    ended += fakes
    assert workers.prepare(WANTED) == PREPARED
    workers.commit({"topic": Routing((2,), 2)})
    assert fakes[0].asked[-1] == (COMMIT, {"topic": Routing((2,), 2)})
    assert workers.models_ready


def test_where_all_die_nothing_is_prepared(ended: list[FakeWorker]) -> None:
    workers, fakes = fleet({}, {})
    ended += fakes
    with pytest.raises(LoadError, match="there is no worker"):
        workers.prepare(WANTED)


def test_statistics_add_up(ended: list[FakeWorker]) -> None:
    one = Statistics("topic", "1", rows=3, success=Tally(2, 0.5), by_rows={1: Tally(1, 0.1), 2: Tally(1, 0.2)}, last=7)
    two = Statistics("topic", "1", rows=2, success=Tally(1, 0.25), by_rows={2: Tally(1, 0.3)}, last=9)
    other = Statistics("topic", "2", rows=1)
    workers, fakes = fleet({STATISTICS: [one]}, {STATISTICS: [two, other]})
    ended += fakes
    found = {each.version: each for each in workers.statistics({"topic": ["1", "2"]})}
    assert found["2"] == other
    assert (found["1"].rows, found["1"].success, found["1"].last) == (5, Tally(3, 0.75), 9)
    assert found["1"].by_rows == {1: Tally(1, 0.1), 2: Tally(2, 0.5)}


def test_a_model_that_is_needed_and_not_there_is_not_ready(ended: list[FakeWorker]) -> None:
    workers, fakes = fleet({COMMIT: None})
    ended += fakes
    workers.commit({"topic": Routing(needed=True), "sentiment": Routing((1,), 1)})
    assert not workers.models_ready
    workers.commit({"topic": None})
    assert workers.models_ready


class Served:
    """Stands for control: what is served by those who are there."""

    served = (Wanted("models/topic/1", "topic", 1, "d1"), Wanted("models/topic/2", "topic", 2, "d2"))
    routings: ClassVar = {
        "topic": Routing((1, 2), default=2, labels={"stable": 2, "old": 1}),
        "sentiment": Routing((), None, needed=False),
    }


def test_one_that_joins_serves_what_it_can(ended: list[FakeWorker], caplog: pytest.LogCaptureFixture) -> None:
    """The package of a version that others serve from memory may be another by now, or broken."""

    def prepare(wanted: Wanted) -> Prepared | Refused:
        return Refused("checksum", "it is broken") if wanted.version == 2 else PREPARED

    workers = Workers()
    fake = FakeWorker({PREPARE: prepare, COMMIT: None, STARTED: None})
    ended.append(fake)
    workers.join(fake.line, cast("Control", Served()))
    [(_, told)] = [each for each in fake.asked if each[0] == COMMIT]
    assert told["topic"] == Routing((1,), None, labels={"old": 1}, reasons={2: "it is broken"})
    assert told["sentiment"] == Served.routings["sentiment"]
    assert "worker can't serve what others do" in caplog.text

    workers.commit(Served.routings)
    assert fake.asked[-1] == (COMMIT, told), "it still lacks it"
    fake.answers[PREPARE] = PREPARED
    workers.prepare(WANTED)
    workers.commit(Served.routings)
    assert fake.asked[-1] == (COMMIT, Served.routings), "it was mended"
