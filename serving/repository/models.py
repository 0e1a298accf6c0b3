"""The models that are served: every version found, verified or not, and which one answers a request."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from serving.engine.batcher import Limits
from serving.engine.device import Device
from serving.engine.engine import Engine
from serving.metrics import Metrics, VersionMetrics
from serving.package.manifest import Manifest
from serving.package.text import Normaliser
from serving.repository import disk, verify
from serving.status import Code, StatusError, invalid, shown

log = logging.getLogger(__name__)

_LABEL = re.compile(r"[a-z][a-z0-9-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, eq=False)
class Version:
    """A verified version, ready to answer."""

    manifest: Manifest
    engine: Engine
    metrics: VersionMetrics
    normalisers: dict[str, Normaliser]
    """By text input."""
    outputs: dict[str, int]
    """Position of each output."""
    label: str
    """The version number as responses and metrics give it."""


class Models:
    """All models of one folder."""

    def __init__(
        self,
        folder: Path,
        device: Device,
        limits: Limits,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        contracts: Mapping[str, verify.Contract],
    ) -> None:
        self._folder = folder
        self._device = device
        self._limits = limits
        self._metrics = metrics
        self._loop = loop
        self._contracts = contracts
        self._ready: dict[str, dict[int, Version]] = {}
        self._failed: dict[str, dict[int, str]] = {}
        self._default: dict[str, Version] = {}
        """What answers where a request names no version: the highest that is ready."""

    @property
    def max_rows(self) -> int:
        """Rows of one request that could ever fit."""
        return self._limits.max_queue_rows

    @property
    def ready(self) -> dict[str, bool]:
        """Has each model in the folder a verified version?"""
        return {name: bool(versions) for name, versions in self._ready.items()}

    @property
    def failures(self) -> list[str]:
        """What was not loaded, and why."""
        return [
            f"{name} version {number}: {reason}"
            for name, versions in self._failed.items()
            for number, reason in versions.items()
        ]

    def load_all(self) -> None:
        """Load every version found, one after the other: ONNX Runtime sessions must not be created at once.

        Raises:
            RepositoryError: there is nothing to load.
        """
        for name, numbers in disk.scan(self._folder).items():
            self._ready[name], self._failed[name] = {}, {}
            for number in numbers:
                self._load(name, number)
            self._metrics.watch_queue(name, partial(self.queued_rows, name))

    def queued_rows(self, name: str) -> int:
        """Rows that wait for any version of a model."""
        return sum(version.engine.queued_rows for version in self._ready[name].values())

    def resolve(self, name: str, wanted: str) -> Version:
        """The version that answers a request for `wanted`: a number, a label, or empty for the default.

        Raises:
            StatusError: INVALID_ARGUMENT, NOT_FOUND, or UNAVAILABLE for what is there but not loaded.
        """
        if not wanted and (default := self._default.get(name)) is not None:
            return default
        versions = self._ready.get(name)
        if versions is None:
            has = ", ".join(self._ready) or "none"
            raise StatusError(Code.NOT_FOUND, f"model {shown(name)} is not in the repository, which has: {has}")
        if not wanted:
            reasons = "; ".join(f"version {n}: {reason}" for n, reason in self._failed[name].items())
            raise StatusError(Code.UNAVAILABLE, f"model {name} is not loaded ({reasons})")
        if _NUMBER.fullmatch(wanted):
            number = int(wanted)
            if number in versions:
                return versions[number]
            if number in self._failed[name]:
                raise StatusError(
                    Code.UNAVAILABLE, f"version {number} of {name} is not loaded: {self._failed[name][number]}"
                )
            has = ", ".join(map(str, versions)) or "none"
            raise StatusError(Code.NOT_FOUND, f"version: {name} has no version {number}; ready: {has}")
        if _LABEL.fullmatch(wanted):
            raise StatusError(Code.NOT_FOUND, f"version: {name} has no version labelled {shown(wanted)}")
        raise invalid(f"version: {shown(wanted)} is neither a positive integer nor a label ([a-z][a-z0-9-]*)")

    async def close(self) -> None:
        """Let every engine finish what it has."""
        for versions in self._ready.values():
            for version in versions.values():
                await version.engine.close()

    def _load(self, name: str, number: int) -> None:
        started = time.monotonic()
        try:
            package = disk.read(self._folder, name, number)
            manifest = package.manifest
            verify.check_contract(manifest, self._contracts.get(name))
            runner, cost, batch_rows = verify.load(package, self._device, self._limits.max_batch_rows)
        except disk.LoadError as error:
            log.error("model refused", extra={"model": name, "version": number, "reason": str(error)})
            self._metrics.loaded(name, number, error.outcome)
            self._failed[name][number] = str(error)
            return
        metrics = self._metrics.served(name, number, runner.session.provider, manifest.task)
        self._ready[name][number] = Version(
            manifest,
            Engine(runner, replace(self._limits, max_batch_rows=batch_rows), metrics, self._loop, cost),
            metrics,
            {spec.name: Normaliser(spec.text) for spec in manifest.inputs if spec.text},
            {spec.name: position for position, spec in enumerate(manifest.outputs)},
            str(number),
        )
        self._default[name] = self._ready[name][max(self._ready[name])]
        self._metrics.loaded(name, number, "ready")
        log.info(
            "model ready",
            extra={
                "model": name,
                "version": number,
                "provider": runner.session.provider,
                "batch_rows": batch_rows,
                "seconds": round(time.monotonic() - started, 3),
            },
        )
