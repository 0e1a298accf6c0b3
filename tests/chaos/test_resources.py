"""What a process may have is used up: file descriptors, memory. It goes on with what it has."""

import contextlib
import resource
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.transport.native.frames import PREFACE
from tests.chaos.conftest import Figure
from tests.chaos.load import TOPIC, Load, ask
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import workers

LARGE = pb.PredictTopicRequest(newswires=["the " * 2000] * 500).SerializeToString()
"""Four megabytes, of which a batch makes several times as much."""

PATIENT = ("--max-queue-rows", "100000")
"""So that none of those is refused for another reason."""

FEW = 10
"""File descriptors beyond those that a server uses."""
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
SLACK = 20.0


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_descriptors_run_out(house: Path, transport: str, figure: Figure) -> None:
    """Clients take every file descriptor that the server may have."""
    with ServerProcess("--transport", transport, models=house) as server:
        server.wait_ready()
        process = psutil.Process(server.process.pid)
        with Load(server.address, callers=1) as load, contextlib.ExitStack() as many:
            used, (_, hard) = process.num_fds(), process.rlimit(resource.RLIMIT_NOFILE)
            process.rlimit(resource.RLIMIT_NOFILE, (used + FEW, hard))
            for _ in range(4 * FEW):
                one = many.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                with contextlib.suppress(OSError):
                    one.sendall(PREFACE)
            wait_until(lambda: process.num_fds() == used + FEW)
            began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
            calls = load.answered
            for path in ("/health/live", "/health/ready", "/metrics"):
                with urllib.request.urlopen(server.metrics.replace("/metrics", path), timeout=5) as answer:
                    assert answer.status == 200, "probes have descriptors of their own"
            time.sleep(0.7)
            busy = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
            assert load.answered > calls, "who is connected is answered"
            figure("cores busy meanwhile", busy)
            figure("calls/s meanwhile", (load.answered - calls) / (time.monotonic() - began))
            assert busy < 0.7, "accepting is not tried over and over"
            many.close()
            wait_until(lambda: ask(server, timeout=1) == "OK")
            figure("new connections after s", time.monotonic() - began - 0.7)
            assert load.lost == 0
        figure("calls lost", load.lost)
        server.terminate()
        assert server.exit_code() == 0


def test_few_descriptors_are_made_many(house: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = ServerProcess(models=house)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server:
        raised = server.wait_for("file descriptors")
        server.wait_ready()
        assert (raised["before"], raised["limit"]) == (256, hard)
        assert psutil.Process(server.process.pid).rlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("room", [8, 48], ids=["next to none", "little"])
def test_memory_runs_out(topics: Path, room: int, figure: Figure) -> None:
    """Large requests meet a limit on memory."""
    with ServerProcess(*PATIENT, models=topics) as server:
        server.wait_ready()
        process = psutil.Process(server.process.pid)
        with Load(server.address, callers=1) as load, ThreadPoolExecutor(12) as pool:
            process.rlimit(resource.RLIMIT_DATA, (process.memory_info().data + room * 2**20, -1))
            asked = [pool.submit(ask, server, LARGE, TOPIC) for _ in range(36)]
            outcomes = Counter(future.result() for future in asked)
            assert set(outcomes) <= {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}
            assert outcomes["RESOURCE_EXHAUSTED"] + outcomes["UNAVAILABLE"] + outcomes["INTERNAL"]
            process.rlimit(resource.RLIMIT_DATA, (-1, -1))
            assert ask(server, LARGE, TOPIC) == "OK", "the server is none the worse"
            load.wait_for(20)
        figure("large calls refused", outcomes["RESOURCE_EXHAUSTED"])
        figure("connections cut", outcomes["UNAVAILABLE"])
        figure("others' calls lost", load.lost)
        server.terminate()
        assert server.exit_code() == 0


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory control group of one's own."""
    for root in MEMORY_GROUPS:
        made = root / "triptych-test"
        with contextlib.suppress(OSError):
            made.mkdir()
            if any((made / name).exists() for name in ("memory.limit_in_bytes", "memory.max")):
                yield made
                made.rmdir()
                return
            made.rmdir()
    pytest.skip("killed for its memory: this machine lets nobody make a memory control group")


def test_a_worker_that_is_killed_for_its_memory_is_replaced(topics: Path, group: Path, figure: Figure) -> None:
    """The kernel kills one of two workers for its memory."""
    limit = next(group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
    with ServerProcess(*PATIENT, "--workers", "2", models=topics) as server, ThreadPoolExecutor(12) as pool:
        server.wait_ready()
        with Load(server.address, callers=4) as load:
            limit.write_text(str(16 * 2**20))  # what it has already is not counted again
            (group / "cgroup.procs").write_text(str(workers(server)[0].pid))
            began = time.monotonic()
            asked = [pool.submit(ask, server, LARGE, TOPIC) for _ in range(24)]
            died = server.wait_for("worker died")
            assert died["exit_code"] == -9
            server.wait_for("worker ready")
            figure("replaced after s", time.monotonic() - began)
            assert {future.result() for future in asked} <= {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
            load.wait_for(30)
        assert load.lost <= 4, "each caller has one call in flight"
        figure("others' calls lost", load.lost)
        server.terminate()
        assert server.exit_code() == 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SLACK
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
