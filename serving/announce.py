"""The log line that says that the server serves, and where; and those that say what should be thought of first."""

import logging
import time
from collections.abc import Mapping

from serving.config import Settings
from serving.ports import GRPC, HTTP, MANAGEMENT, MANAGEMENT_HTTP, addresses
from serving.security import warn

log = logging.getLogger(__name__)


def announce(settings: Settings, ports: Mapping[str, int], metrics_port: int, started: float) -> None:
    """Say that the server serves, and where; `ports` as `Ports.bind` has them."""
    hosts = {name: address.rpartition(":")[0] for name, address in addresses(settings).items()}
    at = {name: f"{hosts[name]}:{port}" for name, port in ports.items()}
    scheme = "http" if settings.tls is None else "https"
    where = {GRPC: at[GRPC], HTTP: f"{scheme}://{at[HTTP]}"}
    if MANAGEMENT in at:
        where[MANAGEMENT] = at[MANAGEMENT]
    if MANAGEMENT_HTTP in at:
        where[MANAGEMENT_HTTP] = f"{scheme}://{at[MANAGEMENT_HTTP]}"
    metrics_host = settings.metrics_address.rpartition(":")[0]
    where["metrics"] = f"http://{metrics_host}:{metrics_port}/metrics"
    warn(settings)
    log.info("serving", extra={**where, "seconds": round(time.monotonic() - started, 3)})
