"""Ray Serve: HTTP and JSON, both models in one replica, batching on."""

import argparse
import json
import os
import secrets
import signal
import socket
import threading
from pathlib import Path


def free_port() -> str:
    """A port of loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


SCRATCH = Path.cwd()

# Ray reads its settings from the environment when it is imported, and its processes inherit them.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else it writes one into the home folder
    # HAProxy in front of replicas that speak HTTP themselves. CPU time of a house at 64 / 16 / 1 in flight: 174 / 199 /
    # 487 us; with Ray's own proxy, the default, 3,700 / 5,100 / 6,600; at the replica's own port 155 / 159 / 316.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_METRICS_PORT": free_port(),
    "RAY_SERVE_HAPROXY_STATS_PORT": free_port(),
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": free_port(),
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(SCRATCH / "haproxy.cfg"),
    "RAY_SERVE_HAPROXY_SOCKET_PATH": str(SCRATCH / "haproxy.sock"),
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(SCRATCH),
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(SCRATCH / "haproxy.state"),
    # With their defaults it did not stop within 20 s.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}

import numpy as np  # noqa: E402
import predictor  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402

# Without a window batches have 60 rows at 64 in flight, and 13 at 16.
BATCHING = {"max_batch_size": 64, "batch_wait_timeout_s": 0.0}
QUIET = {"enable_access_log": False, "log_level": "ERROR"}


@serve.deployment(
    graceful_shutdown_timeout_s=0,
    graceful_shutdown_wait_loop_s=0.1,
    max_ongoing_requests=1000,
    ray_actor_options={"num_cpus": 0},
    logging_config=QUIET,
)
class Peer:
    """House prices and sentiment."""

    def __init__(self, models: str) -> None:
        self._house = predictor.House(models)
        self._sentiment = predictor.Sentiment(models)

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        if request.scope["path"] == "/house_price":
            reply = {"price": await self.prices(body["features"])}
        else:
            reply = {"label": await self.labels(body["text"])}
        return Response(json.dumps(reply), media_type="application/json")

    @serve.batch(**BATCHING)
    async def prices(self, features: list[list[float]]) -> list[float]:
        prices = self._house.run(np.array(features, np.float32))
        return [round(price, 4) for price in prices.ravel().tolist()]

    @serve.batch(**BATCHING)
    async def labels(self, texts: list[str]) -> list[str]:
        return [self._sentiment.label(probability) for probability in self._sentiment.run(texts)]


def main() -> None:
    """Serve until SIGTERM."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--models", required=True)
    chosen = arguments.parse_args()
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        # Ray's own ports listen on all interfaces all the same.
        _node_ip_address="127.0.0.1",
        _temp_dir=str(SCRATCH),
        _system_config={"enable_metrics_collection": False},
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serve.start(
        http_options={"host": "127.0.0.1", "port": chosen.port},
        logging_config=QUIET,
    )
    serve.run(Peer.bind(chosen.models), route_prefix="/")
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
