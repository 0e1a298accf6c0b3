"""Clients that misbehave: idle by the thousand, slow to read, or flooding. Others are served as before."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import psutil

from protos.prediction.v1 import prediction_pb2 as pb
from tests.chaos import raw
from tests.chaos.conftest import Figure
from tests.chaos.load import HOUSE_PRICE, TOPIC, Load
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric

CONNECTIONS = int(os.environ.get("TESTS_CHAOS_CONNECTIONS") or 1000)
MAX_CONNECTION_BYTES = 64 * 1024
MAX_UNREAD_BYTES = 3 * 64 * 2**20
"""Of three connections: the answers that wait for each are bounded, and what is computed at that moment."""
CALLS = 400
"""Of one who does not read."""
ANSWERED = 'triptych_requests_total{code="OK",method="PredictTopic"'
PATIENCE_MS = 5000


def compare(load: Load, began: float, figure: Figure) -> None:
    """What others saw: nothing but a busier machine."""
    assert load.lost == 0, load.outcomes
    figure("others' calls lost", load.lost)
    figure("others' median before, ms", load.median_ms(end=began))
    figure("others' median meanwhile, ms", load.median_ms(begin=began))
    figure("others' longest meanwhile, ms", load.longest_ms(begin=began))
    assert load.longest_ms(begin=began) < PATIENCE_MS


def test_idle_connections_cost_memory_and_nothing_else(house: Path, figure: Figure) -> None:
    """Thousands of connections that are open and idle."""
    count = raw.room_for(CONNECTIONS)
    with ServerProcess(models=house) as server:
        server.wait_ready()
        process = psutil.Process(server.process.pid)
        with Load(server.address) as load:
            load.wait_for(100)
            before = process.memory_info().rss
            made = raw.idle(server.port, count)
            began = time.monotonic()
            grown = process.memory_info().rss - before
            load.wait_for(200)
            figure("connections", count)
            figure("KiB a connection", grown / count / 1024)
            assert grown < count * MAX_CONNECTION_BYTES
            for one in made:
                one.close()
            compare(load, began, figure)
        server.terminate()
        assert server.exit_code() == 0


def test_who_does_not_read_does_not_stop_others(topics: Path, figure: Figure) -> None:
    """Clients that ask for much and read nothing."""
    message = pb.PredictTopicRequest(newswires=["oil prices rose"] * 50, top_k=100).SerializeToString()
    data = raw.calls(TOPIC, message, CALLS)
    with ServerProcess("--max-queue-rows", "100000", models=topics) as server:
        server.wait_ready()
        process = psutil.Process(server.process.pid)
        with Load(server.address) as load, contextlib.ExitStack() as open_ones:
            load.wait_for(50)
            before = process.memory_info().rss
            began = time.monotonic()
            silent = [raw.greeted(server.port, window=raw.MANY, buffer=1 << 12) for _ in range(3)]
            for one in silent:
                open_ones.enter_context(one)
            senders = [threading.Thread(target=send, args=(one, data), daemon=True) for one in silent]
            for sender in senders:
                sender.start()
            load.wait_for(300)
            time.sleep(0.5)
            taken = metric(server, ANSWERED)
            assert 0 < taken < len(silent) * CALLS, "those that are not read stand still"
            figure("share of those calls that was computed", taken / (len(silent) * CALLS))
            grown = process.memory_info().rss - before
            figure("MiB of answers unread", grown / 2**20)
            assert grown < MAX_UNREAD_BYTES
            open_ones.close()
            compare(load, began, figure)
        server.terminate()
        assert server.exit_code() == 0


def send(one: socket.socket, data: bytes) -> None:
    """As much as is taken."""
    with contextlib.suppress(OSError):
        one.sendall(data)


def test_a_flood_ends_with_its_connection(house: Path, figure: Figure) -> None:
    """Clients that open streams and take them back as fast as they can (CVE-2023-44487)."""
    with ServerProcess(models=house) as server:
        server.wait_ready()
        with Load(server.address) as load:
            load.wait_for(50)
            began = time.monotonic()
            ends = [raw.reset_flood(server.port, HOUSE_PRICE) for _ in range(10)]
            figure("floods cut off", len([end for end in ends if end is not None]))
            figure("each after s", (time.monotonic() - began) / len(ends))
            load.wait_for(30)
            compare(load, began, figure)
        assert any(line["event"] == "connection ended" for line in server.lines)
        server.terminate()
        assert server.exit_code() == 0
