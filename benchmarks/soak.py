"""Soak: many minutes of callers that come, ask, give up and die, every answer held against its request.

`python -m benchmarks.soak --transport native --minutes 10`. It says whether the server's memory stays flat
after the first minute, and whether any answer was lost, wrong or somebody else's. Callers in Python can't keep a
server busy from one core, so h2load asks one and the same question beside them.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from benchmarks import h2load
from benchmarks.h2load import IN_FLIGHT, Shot
from benchmarks.load import answer
from benchmarks.machine import Cores, pinned
from benchmarks.payloads import houses
from benchmarks.servers import Server, real_server
from serving.client import AsyncPredictionClient, PredictionError

CALLERS = 24
SAMPLE_SECONDS = 5.0
WARM_SECONDS = 60.0
RESULTS = Path(__file__).parent / "results" / "soak.json"

HOUSES = [{"rooms": 4 + i / 50, "lower_status": 3 + i % 30, "tax_rate": 200.0 + i} for i in range(200)]
TEXTS = [f"A film about {i} {'good' if i % 3 else 'dreadful'} people. " * (1 + i % 40) for i in range(200)]


class Soak:
    """The callers, and what they saw."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stop = asyncio.Event()
        self.prices: list[float] = []
        self.shares: list[float] = []

    async def learn(self) -> None:
        """What each question's answer is, asked alone."""
        async with AsyncPredictionClient(self.address) as client:
            self.prices = [(await client.predict_house_price(house))[0].price_usd for house in HOUSES]
            self.shares = [(await client.predict_sentiment(text))[0].positive_probability for text in TEXTS]

    async def caller(self, pause: float) -> None:
        """Ask, now and then over a new connection, now and then giving up."""
        while not self.stop.is_set():
            async with AsyncPredictionClient(self.address, timeout=10) as client:
                for _ in range(self.random.randrange(1, 200)):
                    if self.stop.is_set():
                        return
                    await self._ask(client)
                    await asyncio.sleep(self.random.expovariate(1 / pause))

    async def _ask(self, client: AsyncPredictionClient) -> None:
        first = self.random.randrange(len(HOUSES))
        indices = [(first + k) % len(HOUSES) for k in range(self.random.choice((1, 1, 1, 2, 5, 40)))]
        call: Any
        if self.random.random() < 0.5:
            call = client.predict_house_price([HOUSES[i] for i in indices])
            expected, value = self.prices, "price_usd"
        else:
            call = client.predict_sentiment([TEXTS[i] for i in indices])
            expected, value = self.shares, "positive_probability"
        task = asyncio.ensure_future(call)
        try:
            if self.random.random() < 0.05:
                await asyncio.sleep(self.random.random() * 0.002)
                task.cancel()
            answers = await task
        except asyncio.CancelledError:
            self.seen["cancelled"] += 1
            return
        except PredictionError as error:
            self.seen[error.code.name] += 1
            return
        self.seen["answered"] += 1
        for index, found in zip(indices, answers, strict=True):
            if abs(getattr(found, value) - expected[index]) > 1e-4 + 1e-4 * abs(expected[index]):
                self.wrong.append(f"{value} of {index}: {getattr(found, value)}, expected {expected[index]}")

    async def dier(self) -> None:
        """Clients that vanish in the middle of whatever they do."""
        script = (
            "import grpc, sys, threading\n"
            "channel = grpc.insecure_channel(sys.argv[1])\n"
            "call = channel.unary_unary('/prediction.v1.PredictionService/PredictSentiment')\n"
            "[call.future(b'\\x0a\\x05hello' * 50, timeout=30) for _ in range(200)]\n"
            "threading.Event().wait()\n"
        )
        while not self.stop.is_set():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, self.address)
            await asyncio.sleep(self.random.uniform(0.2, 1.5))
            process.send_signal(signal.SIGKILL)
            await process.wait()
            self.seen["killed clients"] += 1
            _, writer = await asyncio.open_connection(*self.address.rsplit(":", 1))
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(self.random.randrange(200)))
            await asyncio.sleep(self.random.random())
            writer.transport.abort()
            self.seen["garbage connections"] += 1


async def soak(server: Server, cores: Cores, minutes: float, pause: float, beside: int) -> dict[str, Any]:
    """Run it, and return what was seen."""
    run = Soak(server.address, seed=1)
    await run.learn()
    payload = houses()
    reply = answer(server, payload)
    shot = Shot(server.address, payload.method, payload.messages[0], *IN_FLIGHT[64])
    crowd = asyncio.create_task(asyncio.to_thread(h2load.steady, shot, cores.load, int(minutes * 60), beside))
    tasks = [asyncio.create_task(run.caller(pause)) for _ in range(CALLERS)] + [asyncio.create_task(run.dier())]
    process = server.process
    cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
    samples: list[tuple[float, float]] = []
    while (elapsed := time.monotonic() - started) < minutes * 60:
        await asyncio.sleep(SAMPLE_SECONDS)
        samples.append((round(elapsed, 1), process.memory_info().rss / 2**20))
        print(f"\r{elapsed:5.0f} s  {samples[-1][1]:6.1f} MiB  {dict(run.seen)}", end="", file=sys.stderr, flush=True)
        if any(task.done() for task in (*tasks, crowd)):
            break
    busy = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
    run.stop.set()
    await asyncio.gather(*tasks)
    counted = await crowd
    h2load.check(counted, reply, None)
    run.seen["answered to h2load"] = counted.done
    warm = [rss for at, rss in samples if at >= min(WARM_SECONDS, minutes * 30)]
    return {
        "minutes": minutes,
        "server_core": round(busy, 3),
        "seen": dict(run.seen),
        "wrong": run.wrong[:20],
        "rss_mib": {"first_warm": warm[0], "last": warm[-1], "max": max(warm)},
        "samples": samples,
        "grpcio": grpc.__version__,
    }


def main() -> int:
    """Returns 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", default="native")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=0.015, help="mean seconds between a caller's calls")
    parser.add_argument("--beside", type=int, default=42_000, help="requests a second that h2load makes beside them")
    options = parser.parse_args()
    cores = Cores.choose()
    with real_server(cores.server, options.transport) as server, pinned(cores.load):
        result = asyncio.run(soak(server, cores, options.minutes, options.pause, options.beside))
    result["transport"] = options.transport
    print()
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
