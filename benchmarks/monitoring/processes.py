"""Troubles with servers as processes: gone, too busy, too slow, short of something, or with files that are no good."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.monitoring.certificates import issue
from benchmarks.monitoring.fault import KNOWN, LONG, PAGE, TICKET, Fault
from benchmarks.monitoring.stage import Stage
from serving.client import House, PredictionClient

_FILES = 128
_NEARLY_ALL = 0.93
"""Share of its memory that a server takes where it has nearly too little."""


def _killed(stage: Stage) -> Fault:
    served = stage.server("killed")
    served.start()
    return Fault(
        (("TriptychInstanceDown", TICKET),),
        "a server is killed (SIGKILL)",
        "it is started again",
        lambda: served.stop(signal.SIGKILL),
        served.start,
        "killed",
    )


def _overload(stage: Stage) -> Fault:
    served = stage.server("overload", "--max-queue-rows", "64", "--max-batch-rows", "8", models=("sentiment",))
    served.start()
    client = PredictionClient(served.address)
    ends: list[Callable[[], None]] = []
    return Fault(
        (("TriptychOverloaded", PAGE),),
        "sixteen callers send 32 long reviews each to a queue of 64 rows",
        "one caller sends one at a time",
        lambda: ends.append(stage.call(lambda: client.predict_sentiment([LONG] * 32), callers=16)),
        lambda: (ends.pop()(), stage.call(lambda: client.predict_sentiment(KNOWN))),
        "overload",
    )


def _slow(stage: Stage) -> Fault:
    served = stage.server("slow")
    served.start()
    usual = served.flags
    client = PredictionClient(served.address)
    stage.call(lambda: client.predict_house_price(House(rooms=6.0)), callers=2)
    return Fault(
        (("TriptychSlow", PAGE),),
        "--max-batch-delay 0.2: every batch waits for a fuller one",
        "without it again",
        lambda: served.restart(*usual, "--max-batch-delay", "0.2"),
        lambda: served.restart(*usual),
        "slow",
    )


def _no_gpu(stage: Stage) -> Fault:
    served = stage.server("no-gpu")
    served.start()
    usual = served.flags
    return Fault(
        (("TriptychOnCpu", TICKET),),
        "--device auto where there is no GPU",
        "--device cpu",
        lambda: served.restart(*usual, "--device", "auto"),
        lambda: served.restart(*usual),
        "no-gpu",
    )


def _worker(stage: Stage) -> Fault:
    served = stage.server("worker", "--workers", "2")
    served.start()

    def make() -> None:
        assert served.process is not None
        children = psutil.Process(served.process.pid).children()
        next(one for one in children if "spawn_main" in " ".join(one.cmdline())).kill()

    return Fault(
        (("TriptychWorkerDied", TICKET),),
        "one of two workers is killed (SIGKILL)",
        "it is replaced, without help",
        make,
        lambda: None,
        "worker",
    )


def _memory(stage: Stage) -> Fault | None:
    group = _memory_group()
    if group is None:
        return None
    stage.at_the_end(group.rmdir)
    served = stage.server("memory")
    served.prefix = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    served.start()
    limit = next(file for name in ("memory.max", "memory.limit_in_bytes") if (file := group / name).exists())
    unlimited = limit.read_text("utf-8")

    def make() -> None:
        assert served.process is not None
        limit.write_text(str(int(psutil.Process(served.process.pid).memory_info().rss / _NEARLY_ALL)), encoding="utf-8")

    return Fault(
        (("TriptychMemoryNearLimit", TICKET),),
        "a control group leaves a server hardly more memory than it has",
        "the limit is lifted",
        make,
        lambda: limit.write_text("-1" if unlimited[0].isdigit() else "max", encoding="utf-8"),
        "memory",
    )


def _memory_group() -> Path | None:
    """A control group for one server, or None where none can be made."""
    for folder in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        own = folder / f"triptych-{os.getpid()}"
        try:
            own.mkdir()
        except OSError:
            continue
        return own
    return None


def _files(stage: Stage) -> Fault:
    served = stage.server("files")
    served.prefix = ("prlimit", f"--nofile={_FILES}:{_FILES}")
    served.start()
    opened = ExitStack()

    def make() -> None:
        for _ in range(int(0.75 * _FILES)):
            opened.enter_context(socket.create_connection(("127.0.0.1", served.ports["grpc"])))

    return Fault(
        (("TriptychFilesNearLimit", TICKET),),
        f"a server that may have {_FILES} file descriptors gets {int(0.75 * _FILES)} idle connections",
        "the server closes them, as they say nothing",
        make,
        opened.close,
        "files",
    )


def _certificate(stage: Stage) -> Fault:
    folder = stage.folder()
    issue(folder, days=90)
    certificate, key = folder / "tls.crt", folder / "tls.key"
    served = stage.server("certificate", "--tls-certificate", str(certificate), "--tls-key", str(key))
    served.start()

    def make() -> None:
        issue(folder, days=0.5)

    return Fault(
        (("TriptychCertificateExpires", TICKET), ("TriptychCertificateExpires", PAGE)),
        "its certificate is replaced by one that expires in half a day",
        "by one for 90 days, without a restart",
        make,
        lambda: issue(folder, days=90),
        "certificate",
    )


def _mismatch(stage: Stage) -> Fault:
    folder = stage.folder()
    issue(folder, days=90)
    certificate, key = folder / "tls.crt", folder / "tls.key"
    served = stage.server("mismatch", "--tls-certificate", str(certificate), "--tls-key", str(key))
    served.start()
    return Fault(
        (("TriptychFilesRefused", TICKET),),
        "its certificate is replaced by a file that is none",
        "by a sound one, without a restart",
        lambda: certificate.write_text("no certificate\n", encoding="utf-8"),
        lambda: issue(folder, days=90),
        "mismatch",
    )


TROUBLES: tuple[Callable[[Stage], Fault | None], ...] = (
    *(_killed, _overload, _slow, _no_gpu, _worker),
    *(_memory, _files, _certificate, _mismatch),
)
"""Those that can't be had here are None."""
