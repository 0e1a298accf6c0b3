"""Load through gRPC by client processes of our own, and what the server says of itself meanwhile."""

import pickle
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from benchmarks.gpu.client import Found, Orders
from benchmarks.gpu.inputs import ROOT
from benchmarks.scrape import Samples, batching, parse
from benchmarks.stats import percentile, ratio
from serving.telemetry.gpu import USED, UTILIZATION

_CPU = "process_cpu_seconds_total"
_STREAMS = 64
"""In flight on one connection, at most."""
_WARM_UP_SECONDS = 0.3
_LOOK_SECONDS = 0.4
"""Between two looks at the GPU: NVML's own period is between a sixth of a second and one."""


class LoadFailed(Exception):  # noqa: N818 - reads better where it is raised
    """A client did not get through, or calls were refused; the message says what happened."""


@dataclass(frozen=True)
class Figures:
    """Of some seconds of load; NaN or None where it is not known."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the server, for a request."""
    client_cores: float
    """That the clients kept busy, all together."""
    batch_rows: float
    """Mean rows of the batches."""
    gpu_utilization: float | None = None
    """The highest share seen; None without a GPU."""
    gpu_memory_bytes: float | None = None
    """The most that was taken of the GPU, by whomever."""


def measure(
    address: str,
    method: str,
    messages: Sequence[bytes],
    in_flight: int,
    seconds: float,
    metrics_url: str = "",
    clients: int = 1,
    warm_up: float = _WARM_UP_SECONDS,
) -> Figures:
    """A closed loop.

    Args:
        address: of the server's gRPC port, without TLS.
        method: the path of a unary call, such as `/prediction.v1.PredictionService/PredictSentiment`.
        messages: its requests, serialised, sent in turn.
        in_flight: calls at once, spread over the clients and over connections of up to 64.
        seconds: that count.
        metrics_url: of the server's `/metrics`; empty: nothing is known of the server.
        clients: processes, at most as many as calls in flight.
        warm_up: seconds beforehand, which don't count.

    Raises:
        LoadFailed: a client did not get through, or a call was answered with an error.
    """
    before = _scrape(metrics_url)
    with _looking(metrics_url if _highest(before, UTILIZATION, USED) else "") as seen:
        found = _clients(address, method, list(messages), in_flight, seconds, clients, warm_up)
    after = _scrape(metrics_url)
    latencies = [latency for one in found for latency in one.latencies]
    answered = sum(one.answered for one in found)
    if errors := sum(one.errors for one in found):
        raise LoadFailed(f"{errors} of {answered + errors} calls were answered with an error")
    if not latencies:
        raise LoadFailed("no call was answered in the time that counts")
    used = after.get((_CPU, ()), float("nan")) - before.get((_CPU, ()), 0.0)
    return Figures(
        len(latencies),
        len(latencies) / seconds,
        percentile(latencies, 50) * 1e3,
        percentile(latencies, 99) * 1e3,
        ratio(used * 1e6, answered),
        sum(one.cpu_seconds for one in found) / (seconds + warm_up),
        _batch_rows(before, after),
        max((one[UTILIZATION] for one in seen if UTILIZATION in one), default=None),
        max((one[USED] for one in seen if USED in one), default=None),
    )


def _clients(
    address: str, method: str, messages: list[bytes], in_flight: int, seconds: float, clients: int, warm_up: float
) -> list[Found]:
    with ExitStack() as stack:
        started = []
        for number in range(count := min(clients, in_flight)):
            streams = _shares(in_flight // count + (number < in_flight % count))
            first = number * len(messages) // count
            orders = Orders(address, method, messages, first, streams, seconds, warm_up)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.gpu.client"],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            assert process.stdin is not None
            process.stdin.write(pickle.dumps(orders))
            process.stdin.flush()
            started.append(process)
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # its last words say why
                process.stdin.write(b"go\n")
                process.stdin.flush()
        return [_ended(process) for process in started]


def _ended(process: "subprocess.Popen[bytes]") -> Found:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        found = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError):
        words = process.stderr.read().decode(errors="replace").strip().splitlines()
        raise LoadFailed(f"a client failed: {words[-1] if words else 'it said nothing'}") from None
    assert isinstance(found, Found)
    return found


def _shares(in_flight: int) -> list[int]:
    """Calls on each of as few connections as hold so many."""
    connections = -(-in_flight // _STREAMS)
    return [in_flight // connections + (number < in_flight % connections) for number in range(connections)]


def _scrape(url: str) -> Samples:
    if not url:
        return {}
    with urllib.request.urlopen(url, timeout=10) as answer:
        return parse(answer.read().decode())


def _highest(samples: Samples, *names: str) -> dict[str, float]:
    """Of each of these metrics that is there, the highest of all devices."""
    found: dict[str, float] = {}
    for (name, _), value in samples.items():
        if name in names:
            found[name] = max(value, found.get(name, value))
    return found


@contextmanager
def _looking(url: str) -> Iterator[list[dict[str, float]]]:
    """Look at the GPU now and then, on a thread; nothing without a `url`."""
    seen: list[dict[str, float]] = []
    over = threading.Event()

    def look() -> None:
        while url and not over.wait(_LOOK_SECONDS):
            seen.append(_highest(_scrape(url), UTILIZATION, USED))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _batch_rows(before: Samples, after: Samples) -> float:
    """Of whichever models computed meanwhile."""
    models = {dict(labels)["model"] for name, labels in after if name == "triptych_batches_total"}
    found = [batching(before, after, model) for model in models]
    rows = sum(one.mean_rows * one.batches for one in found if one.batches)
    return ratio(rows, sum(one.batches for one in found))
