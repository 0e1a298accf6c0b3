"""The models that are served by this process: which version answers a request, and how that changes.

A change has two phases. `prepare` loads and verifies a version on whatever thread, while all goes on as before;
`commit` makes a new table of who answers what, on the event loop, so that every request is answered by exactly one
version. What a version was asked before it lost its place it still answers; then it is let go.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from serving.engine.batcher import Limits, Observer
from serving.engine.device import Device
from serving.engine.engine import Engine
from serving.engine.runs import Runs
from serving.package.text import Normaliser
from serving.repository import disk, placed, verify
from serving.repository.doubt import Doubt
from serving.repository.routing import Routing, Wanted
from serving.repository.shadow import Shadow
from serving.repository.version import Prepared, Version
from serving.status import SHOWN, Code, Resource, StatusError, invalid, shown
from serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_LABEL = re.compile(r"[a-z][a-z0-9-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")

DEFAULT = ""
"""What a request names that names no version."""


class Models:
    """All models of one folder."""

    def __init__(
        self,
        folder: Path,
        devices: Sequence[Device],
        limits: Limits,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        contracts: Mapping[str, verify.Contract],
        runs: Runs | None = None,
    ) -> None:
        self._folder = folder
        self._devices = devices
        self._limits = limits
        self._metrics = metrics
        self._loop = loop
        self._contracts = contracts
        self._runs = runs or Runs()
        self._routings: dict[str, Routing] = {}
        self._ready: dict[str, dict[int, Version]] = {}
        self._staged: dict[tuple[str, int], Version] = {}
        self._table: dict[str, dict[str, Version]] = {}
        """By model, and then by whatever a request may call a version: its number, a label, or nothing."""
        self._closing: set[asyncio.Task[None]] = set()
        self.changed: Callable[[], None] = _nothing
        """Called after each commit."""
        self.observe: Callable[[Observer], Observer] = _as_it_is
        """What a version's batcher tells, given its metrics."""
        self.failed: Callable[[str, int, str, str], None] = _nothing
        """Called, on whatever thread, with name, version, digest and a reason, when a version that is served does not
        reproduce its golden examples any more."""

    @property
    def max_rows(self) -> int:
        """Rows of one request that could ever fit."""
        return self._limits.max_queue_rows

    @property
    def served(self) -> dict[str, dict[int, Version]]:
        """The versions that are served, by model and number."""
        return self._ready

    @property
    def ready(self) -> dict[str, bool]:
        """Is each model's default there?"""
        return {name: DEFAULT in self._table[name] for name in self._routings}

    @property
    def all_ready(self) -> bool:
        """Is every model there that is needed?"""
        return all(DEFAULT in self._table[name] for name, routing in self._routings.items() if routing.needed)

    def queued_rows(self, name: str) -> int:
        """Rows that wait for any version of a model."""
        return sum(version.engine.queued_rows for version in self._ready.get(name, {}).values())

    def resolve(self, name: str, wanted: str) -> Version:
        """The version that answers a request for `wanted`: a number, a label, or empty for the default.

        Raises:
            StatusError: INVALID_ARGUMENT, NOT_FOUND, or UNAVAILABLE for what is there but not loaded.
        """
        try:
            return self._table[name][wanted]
        except KeyError:
            raise self._unresolved(name, wanted) from None

    def prepare(self, wanted: Wanted) -> Prepared:
        """Load and verify a version, which then waits for a commit that names it.

        Raises:
            LoadError: it is not fit to be served.
        """
        started = time.monotonic()
        name, number = wanted.name, wanted.version
        package = disk.read(self._folder, Path(wanted.folder), name, number)
        if wanted.digest not in (None, package.digest):
            raise disk.LoadError("load_error", "it changed while it was tried out", lasting=False)
        served = self._ready.get(name, {}).get(number)
        if served is not None and served.digest == package.digest:
            return Prepared(package.digest, False, served.gpu_memory)
        manifest = package.manifest
        verify.check_contract(manifest, self._contracts.get(name))
        runners, cost, batch_rows, gpu_memory = placed.load(package, self._devices, self._limits.max_batch_rows)
        provider = runners[0].session.provider
        metrics = self._metrics.served(name, number, provider, manifest.task, gpu_memory)
        limits = replace(self._limits, max_batch_rows=batch_rows)
        engine = Engine(runners, limits, self.observe(metrics), self._loop, cost, self._runs)
        engine.doubted = Doubt(runners, lambda reason: self.failed(name, number, package.digest, reason))
        self._staged[name, number] = Version(
            manifest=manifest,
            engine=engine,
            metrics=metrics,
            normalisers={spec.name: Normaliser(spec.text) for spec in manifest.inputs if spec.text},
            outputs={spec.name: position for position, spec in enumerate(manifest.outputs)},
            label=str(number),
            provider=provider,
            batch_rows=batch_rows,
            digest=package.digest,
            gpu_memory=gpu_memory,
        )
        log.info(
            "model ready",
            extra={
                "model": name,
                "version": number,
                "provider": provider,
                **({"gpu_memory_bytes": {f"cuda:{gpu}": n for gpu, n in gpu_memory.items()}} if gpu_memory else {}),
                "batch_rows": batch_rows,
                "seconds": round(time.monotonic() - started, 3),
            },
        )
        return Prepared(package.digest, True, gpu_memory)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        """Serve these models so from now on, on the event loop."""
        for name, routing in routings.items():
            before = self._ready.get(name, {})
            if routing is None:
                self._routings.pop(name, None)
                self._ready.pop(name, None)
                self._table.pop(name, None)
                after: dict[int, Version] = {}
            else:
                after = {number: self._pick(name, number, routing.digests.get(number)) for number in routing.versions}
                self._routings[name], self._ready[name] = routing, after
                self._table[name] = _names(routing, after)
                self._metrics.watch_queue(name, partial(self.queued_rows, name))
                self._compare(name, routing, after)
            for number, version in before.items():
                if version is not after.get(number):
                    self._release(name, number, version)
        for (name, number), version in list(self._staged.items()):
            if name in routings:
                del self._staged[name, number]
                self._release(name, number, version)
        self.changed()

    async def close(self) -> None:
        """Let every engine finish what it has."""
        for version in [version for versions in self._ready.values() for version in versions.values()]:
            await version.engine.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def _pick(self, name: str, number: int, digest: str | None) -> Version:
        """The version of that number and digest: prepared, or served already."""
        staged = self._staged.get((name, number))
        if staged is not None and digest in (None, staged.digest):
            return self._staged.pop((name, number))
        served = self._ready[name][number]
        if digest not in (None, served.digest):
            raise KeyError(f"{name} version {number} was not prepared")
        return served

    def _compare(self, name: str, routing: Routing, versions: dict[int, Version]) -> None:
        """Set the comparison of the default version with a candidate, and end any other."""
        for number, version in versions.items():
            candidate = versions.get(routing.candidate or 0)
            if candidate is None or number != routing.default or candidate is version:
                version.shadow = None
            elif not isinstance(version.shadow, Shadow) or not version.shadow.compares(candidate, routing.fraction):
                version.shadow = Shadow.between(name, version, candidate, routing.fraction, self._metrics)

    def _release(self, name: str, number: int, version: Version) -> None:
        """Let a version go once it has answered everything."""
        version.shadow = None
        successor = self._ready.get(name, {}).get(number)
        task = version.manifest.task
        if successor is None or (successor.provider, successor.manifest.task) != (version.provider, task):
            self._metrics.unlisted(name, version.label, version.provider, task)

        async def close() -> None:
            await version.engine.close()
            if number not in self._ready.get(name, {}) and (name, number) not in self._staged:
                self._metrics.gone(name, version.label)
                log.info("model released", extra={"model": name, "version": number})

        closing = self._loop.create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _unresolved(self, name: str, wanted: str) -> StatusError:
        routing = self._routings.get(name)
        if routing is None:
            has = ", ".join(self._routings) or "none"
            return StatusError(
                Code.NOT_FOUND,
                f"model {shown(name)} is not in the repository, which has: {has}",
                resource=Resource("model", name[:SHOWN]),
            )
        if not wanted:
            reasons = "; ".join(f"version {n}: {reason}" for n, reason in routing.reasons.items())
            reasons = "; ".join(filter(None, [routing.note, reasons]))
            why = f" ({reasons})" if reasons else ""
            return StatusError(Code.UNAVAILABLE, f"model {name} is not loaded{why}")
        has = ", ".join(map(str, routing.versions)) or "none"
        resource = Resource("version", f"{name}/{wanted[:SHOWN]}")
        if _NUMBER.fullmatch(wanted):
            number = int(wanted)
            if number in routing.reasons:
                return StatusError(
                    Code.UNAVAILABLE, f"version {number} of {name} is not loaded: {routing.reasons[number]}"
                )
            return StatusError(
                Code.NOT_FOUND, f"version: {name} has no version {number}; ready: {has}", resource=resource
            )
        if _LABEL.fullmatch(wanted):
            labels = ", ".join(routing.labels) or "none"
            return StatusError(
                Code.NOT_FOUND,
                f"version: {name} has no version labelled {shown(wanted)}; labels: {labels}",
                resource=resource,
            )
        return invalid(f"version: {shown(wanted)} is neither a positive integer nor a label ([a-z][a-z0-9-]*)")


def _names(routing: Routing, versions: dict[int, Version]) -> dict[str, Version]:
    names = {version.label: version for version in versions.values()}
    names |= {label: versions[number] for label, number in routing.labels.items()}
    if routing.default is not None:
        names[DEFAULT] = versions[routing.default]
    return names


def _as_it_is(observer: Observer) -> Observer:
    return observer


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
