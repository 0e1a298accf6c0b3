"""One of several processes that share a gRPC port: a server without a metrics port, on its supervisor's pipe.

Up the pipe go `READY`, once, and the metrics whenever asked; down it goes the asking. A pipe that ends means
that the supervisor is gone, and a worker does not outlive it.
"""

import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from serving import logs
from serving.config import Settings
from serving.metrics import Metrics

READY = "ready"
METRICS = "metrics"


def main(number: int, settings: Settings, listening: socket.socket, pipe: Any) -> None:
    """Run worker `number` to its end: the entry point of a spawned process."""
    started = time.monotonic()
    for received in (signal.SIGTERM, signal.SIGINT):
        signal.signal(received, lambda *_: os._exit(0))  # see serving.__main__
    import uvloop

    from serving.server import Share, StartError, serve

    logs.configure(settings.log_format, settings.log_level)

    def ready(metrics: Metrics) -> None:
        pipe.send(READY)
        threading.Thread(target=_answer, args=(pipe, metrics), name="pipe", daemon=True).start()

    try:
        uvloop.run(serve(settings, started, Share(number, listening, ready)))
    except StartError as error:
        print(f"triptych: {error}", file=sys.stderr)  # noqa: T201 - as the command line says it
        sys.exit(1)


def _answer(pipe: Any, metrics: Metrics) -> None:
    """Give the metrics to who asks, for as long as there is somebody."""
    try:
        while pipe.recv() == METRICS:
            pipe.send(list(metrics.registry.collect()))
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
