"""A Prometheus that watches servers of ours with our rules, in a hurry."""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.servers import REPOSITORY, ServerFailed

OVERLAY = REPOSITORY / "k8s" / "overlays" / "monitoring"
JOB = "triptych"

HASTE = 60
"""By which windows and patience of the rules are divided, so that hours become minutes; limits stay what they are."""

_DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_START_SECONDS = 30.0


def missing() -> str:
    """Why there is no Prometheus here, or nothing."""
    return "" if shutil.which("prometheus") else "no prometheus here (Debian: apt-get install prometheus)"


def rules() -> dict[str, Any]:
    """The groups of rules as Prometheus itself reads them, without Kubernetes around."""
    manifest = yaml.safe_load((OVERLAY / "prometheusrule.yaml").read_text("utf-8"))
    found: dict[str, Any] = manifest["spec"]
    return found


def hastened(groups: dict[str, Any], haste: int = HASTE) -> dict[str, Any]:
    """The same rules with every window and every `for` divided by `haste`, one second at the least."""

    def seconds(number: str, unit: str) -> str:
        return f"{max(1, int(number) * _SECONDS[unit] // haste)}s"

    def rule(one: dict[str, Any]) -> dict[str, Any]:
        changed = {**one, "expr": _DURATION.sub(lambda found: seconds(found[1], found[2]), one["expr"])}
        if "for" in one:
            changed["for"] = seconds(one["for"][:-1], one["for"][-1])
        return changed

    return {"groups": [{**group, "rules": [rule(one) for one in group["rules"]]} for group in groups["groups"]]}


class Prometheus:
    """One that runs, and what can be asked of it."""

    def __init__(self, url: str, targets: Path) -> None:
        self.url = url
        self._targets = targets
        self._watched: dict[str, dict[str, str]] = {}

    def watch(self, targets: Mapping[str, Mapping[str, str]]) -> None:
        """Scrape these too: labels by `HOST:PORT`."""
        self._watched |= {address: dict(labels) for address, labels in targets.items()}
        written = [{"targets": [address], "labels": labels} for address, labels in self._watched.items()]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(written), encoding="utf-8")
        new.rename(self._targets)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def range(self, expression: str, seconds: float, step: float) -> list[dict[str, Any]]:
        """The series of an expression over the last `seconds`."""
        end = time.time()
        span = {"start": f"{end - seconds:.3f}", "end": f"{end:.3f}", "step": str(step)}
        found: list[dict[str, Any]] = self.get("query_range", query=expression, **span)["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Name and severity of every alert that fires."""
        return {(name, severity) for name, severity, _ in self.firing_in()}

    def firing_in(self) -> set[tuple[str, str, str]]:
        """The same with the namespace that each is about, empty where it is about all."""
        labels = [one["labels"] for one in self.get("alerts")["alerts"] if one["state"] == "firing"]
        return {(one["alertname"], one["severity"], one.get("namespace", "")) for one in labels}

    def get(self, path: str, **parameters: str) -> Any:
        """What its API answers under `path`.

        Raises:
            ServerFailed: an error, such as an expression that it can't evaluate.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ServerFailed(f"prometheus: {error.read().decode()}") from error


@contextmanager
def prometheus(groups: dict[str, Any], interval: str = "1s") -> Iterator[Prometheus]:
    """Start one that scrapes and evaluates every `interval`, with its data in a folder that goes with it.

    Raises:
        ServerFailed: it does not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules.yaml").write_text(yaml.safe_dump(groups), encoding="utf-8")
        (folder / "targets.json").write_text("[]", encoding="utf-8")
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": JOB, "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        arguments = (
            *("prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"),
            *(f"--web.listen-address={address}", "--log.level=warn"),
        )
        with (folder / "log").open("w+") as log, subprocess.Popen(arguments, stdout=log, stderr=log) as process:
            try:
                _wait_until_ready(process, f"http://{address}/-/ready", folder / "log")
                yield Prometheus(f"http://{address}", folder / "targets.json")
            finally:
                process.terminate()


def free_port() -> int:
    """One that nobody listens on now; for those that can't choose one themselves and say which."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise ServerFailed(f"prometheus did not start: {log.read_text('utf-8')[-500:]}")
