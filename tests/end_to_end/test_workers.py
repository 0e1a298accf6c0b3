"""Several workers on one port: real processes, killed by real signals."""

import asyncio
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serving.client import AsyncPredictionClient, PredictionClient
from tests.end_to_end.server import ServerProcess
from tests.serving.packages import NAMES

FLAGS = ("--transport", "native", "--workers", "2")
PATIENCE = 60.0


def metric(server: ServerProcess, name: str) -> float:
    with urllib.request.urlopen(server.metrics, timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def workers(server: ServerProcess) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*FLAGS) as process:
        yield process.wait_ready()


def test_memory_and_time_are_those_of_all_processes(server: ServerProcess) -> None:
    processes = [psutil.Process(server.process.pid), *workers(server)]
    alone = max(process.memory_info().rss for process in processes)
    together = sum(process.memory_info().rss for process in processes)
    assert alone < metric(server, "process_resident_memory_bytes") < 1.5 * together
    cpu = sum(sum(process.cpu_times()[:2]) for process in processes)
    assert metric(server, "process_cpu_seconds_total") >= 0.9 * cpu > 0
    began = min(process.create_time() for process in processes)
    assert metric(server, "process_start_time_seconds") == pytest.approx(began, abs=2)
    assert metric(server, "python_info") == 1
    assert metric(server, "python_gc_collections_total") > 0


def test_they_are_counted_together(server: ServerProcess) -> None:
    assert len(workers(server)) == 2
    calls = 16
    for _ in range(calls):  # each over a connection of its own, which either may take
        with PredictionClient(server.address) as client:
            client.predict_house_price({"rooms": 6})
    assert metric(server, "triptych_requests_total") == calls
    assert metric(server, "triptych_model_ready") == len(NAMES), "of every worker alike, and not added up"
    assert metric(server, "triptych_worker_restarts_total") == 0
    server.terminate()
    assert server.exit_code() == 0
    answered = [line["answered"] for line in server.lines if line["event"] == "stopped" and "answered" in line]
    assert len(answered) == 2
    assert sum(answered) == calls


@pytest.mark.asyncio
async def test_a_killed_worker_is_replaced_and_hardly_missed(server: ServerProcess) -> None:
    stop = asyncio.Event()
    answered = 0

    async def caller() -> None:
        nonlocal answered
        async with AsyncPredictionClient(server.address, timeout=30) as client:
            while not stop.is_set():
                await client.predict_house_price({"rooms": 6})
                answered += 1

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    before = set(await asyncio.to_thread(workers, server))
    async with asyncio.timeout(PATIENCE):
        while answered < 100:
            await asyncio.sleep(0)
            assert not any(task.done() for task in callers)
        victim = before.pop()
        victim.send_signal(signal.SIGKILL)
        died = await asyncio.to_thread(server.wait_for, "worker died")
        assert died["exit_code"] == -signal.SIGKILL
        await asyncio.to_thread(server.wait_for, "worker ready")
        goal = answered + 100
        while answered < goal:
            await asyncio.sleep(0)
            assert not any(task.done() for task in callers), "with the client's retries, nobody sees it"
        stop.set()
        await asyncio.gather(*callers)
    assert await asyncio.to_thread(metric, server, "triptych_worker_restarts_total") == 1
    server.terminate()
    assert await asyncio.to_thread(server.exit_code) == 0


def test_workers_do_not_outlive_their_supervisor(server: ServerProcess) -> None:
    orphans = workers(server)
    server.process.kill()
    server.process.wait()
    _, alive = psutil.wait_procs(orphans, timeout=PATIENCE)
    assert alive == []


def test_without_models_there_is_no_server(tmp_path: Path) -> None:
    started = time.monotonic()
    with ServerProcess(*FLAGS, models=tmp_path / "nowhere") as server:
        assert server.exit_code() == 1
        assert f"triptych: models folder {tmp_path / 'nowhere'} does not exist" in server.output
    assert time.monotonic() - started < PATIENCE


def test_a_port_that_is_taken_is_known_before_any_worker(server: ServerProcess) -> None:
    with ServerProcess(*FLAGS, grpc=server.address) as second:
        assert second.exit_code() == 1
        assert second.output == f"triptych: can't listen on {server.address}: address already in use"


def test_workers_need_a_transport_that_shares() -> None:
    with ServerProcess("--transport", "grpcio", "--workers", "2") as server:
        assert server.exit_code() == 2
        assert "triptych: workers=2 needs transport=native" in server.output
