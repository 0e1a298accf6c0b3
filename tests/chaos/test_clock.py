"""The wall clock jumps: deadlines, queues, timers and figures go by the monotonic one."""

import datetime
import time
import urllib.request
from pathlib import Path

import pytest

from tests.chaos.clock import Clock
from tests.chaos.conftest import Figure
from tests.chaos.load import Load
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric

HOUR = 3600


def shown(server: ServerProcess) -> datetime.datetime:
    """The time by the server's clock, as its HTTP port gives it."""
    with urllib.request.urlopen(f"{server.http}/v2", timeout=10) as answer:
        return datetime.datetime.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S %Z")


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_clock_that_jumps_is_not_noticed(house: Path, tmp_path: Path, transport: str, figure: Figure) -> None:
    """The wall clock jumps an hour ahead, and two back."""
    clock = Clock(tmp_path)
    flags = ("--transport", transport, "--max-connection-age-seconds", "600")
    with ServerProcess(*flags, models=house, environment=clock.environment) as server:
        server.wait_ready()
        before = shown(server)
        with Load(server.address, timeout=5.0) as load:
            calm = time.monotonic()
            for seconds in (HOUR, -HOUR):
                clock.jump(seconds)
                load.wait_for(60)
                while abs((shown(server) - before).total_seconds() - seconds) > HOUR / 2:
                    time.sleep(0.05)  # the date of answers may be a second old
        assert load.lost == 0
        figure("calls lost", load.lost)
        figure("others' median before, ms", load.median_ms(end=calm))
        figure("others' median meanwhile, ms", load.median_ms(begin=calm))
        assert load.longest_ms() < 5000
        spent = metric(server, "triptych_request_duration_seconds_sum")
        assert 0 < spent < sum(call.seconds for call in load.calls)
        server.terminate()
        assert server.exit_code() == 0
        assert not [line for line in server.lines if line.get("level") in ("error", "critical")]
