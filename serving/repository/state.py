"""What control knows of a model: the versions that it tried, and what it had served last."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from serving.repository.placed import described
from serving.repository.policy import STABLE, Policy
from serving.repository.routing import Routing, Wanted

POLICY = 0
"""Stands for a model's policy among its versions, which are greater."""

READY, UNAVAILABLE = "READY", "UNAVAILABLE"


class Entry(NamedTuple):
    """A version as the repository index has it."""

    name: str
    version: str
    """Empty for a model of which no version was tried."""
    state: str
    """READY or UNAVAILABLE."""
    reason: str
    """Why it, or what has taken its place on the disk since, is not served; of one that is, what it takes of GPUs."""


@dataclass
class Seen:
    """A version that was tried, and what came of it."""

    mark: Any
    """Fingerprint of its folder when it was tried; None if it is to be tried again whatever it is, ..."""
    folder: Path
    ready: bool = False
    digest: str = ""
    reason: str = ""
    """Why it, or what has taken its place on the disk since, is not served."""
    gpu_memory: dict[int, int] = field(default_factory=dict)
    """Bytes that it takes, by GPU."""
    tried_out: bool = False
    retry_at: float = 0.0
    """... from then on."""


class Pending(NamedTuple):
    """A version whose trial is under way."""

    folder: Path
    mark: Any
    """Fingerprint of its folder when it was read, ..."""
    digest: str
    """... and what was read."""


@dataclass
class Model:
    """A model."""

    needed: bool = False
    """Was it there at the start, or served since? Then the server is not ready without it."""
    wanted: bool = True
    """Is it to be served at all?"""
    policy: Policy = field(default_factory=Policy)
    waited: dict[str, int] = field(default_factory=dict)
    """Labels of which it was said already that their versions are not served."""
    complaint: str = ""
    """What is wrong with its policy."""
    seen: dict[int, Seen] = field(default_factory=dict)
    marks: dict[int, Any] = field(default_factory=dict)
    """Fingerprints of its versions, and of its policy as `POLICY`, at the last look."""
    pending: dict[int, Pending] = field(default_factory=dict)
    """Versions whose trials are under way."""
    routing: Routing = field(default_factory=lambda: Routing(needed=False))
    """As it was committed last."""

    def ready(self, number: int) -> bool:
        """Was this version verified?"""
        return number in self.seen and self.seen[number].ready

    @property
    def held(self) -> set[int]:
        """Versions that keep their names until those which are to have them are there."""
        missing = self.waiting()
        before = {self.routing.labels.get(label) for label in missing}
        if STABLE in missing:
            before.add(self.routing.default)
        return {number for number in before if number is not None and self.ready(number)}

    def index(self, name: str) -> list[Entry]:
        """Its entries in the repository index."""
        entries = [
            Entry(name, str(number), READY if seen.ready else UNAVAILABLE, _remark(seen))
            for number, seen in self.seen.items()
        ]
        return entries or [Entry(name, "", UNAVAILABLE, self.routing.note or self.complaint or "not loaded")]

    def failures(self) -> list[str]:
        """What was refused, and why."""
        found = [f"version {number}: {seen.reason}" for number, seen in self.seen.items() if seen.reason]
        return [*found, *filter(None, [self.complaint or self.routing.note])]

    def waiting(self) -> dict[str, int]:
        """Labels whose versions are not served, and those versions."""
        return {label: number for label, number in self.policy.labels.items() if not self.ready(number)}

    def served(self, name: str) -> list[Wanted]:
        """The packages that it is served from."""
        seen = [(number, self.seen[number]) for number in self.routing.versions]
        return [Wanted(str(one.folder), name, number, one.digest) for number, one in seen]

    def route(self, serve: list[int]) -> Routing:
        """Who answers what, where these versions are served, in order."""
        labels = {}
        for label, number in self.policy.labels.items():
            if number not in serve and self.routing.labels.get(label) in serve:
                number = self.routing.labels[label]  # until what it should mean is there
            if number in serve:
                labels[label] = number
        candidate = self.policy.candidate if self.policy.candidate in serve else None
        default = labels.get(STABLE, self.routing.default if self.routing.default in serve else None)
        if STABLE not in self.policy.labels:
            default = max((number for number in serve if number != candidate), default=None)
        note = self.complaint
        if default is None and STABLE in self.policy.labels:
            note = note or f"label {STABLE} names version {self.policy.labels[STABLE]}, which is not served"
        return Routing(
            versions=tuple(serve),
            note=note if default is None else "",
            digests={number: self.seen[number].digest for number in serve},
            default=default,
            labels=labels,
            candidate=candidate,
            fraction=self.policy.shadow.fraction if self.policy.shadow is not None and candidate is not None else 0.0,
            reasons={number: seen.reason for number, seen in self.seen.items() if number not in serve},
            needed=self.needed or default is not None,
        )


def _remark(seen: Seen) -> str:
    memory = described(seen.gpu_memory) if seen.ready else ""
    return "; ".join(filter(None, [seen.reason, memory]))
