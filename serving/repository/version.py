"""A verified version of a model, ready to answer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from serving.engine.engine import Engine
from serving.engine.request import Outputs, Request
from serving.package.manifest import Manifest
from serving.package.text import Normaliser
from serving.telemetry.bound import VersionMetrics


@dataclass(frozen=True)
class Prepared:
    """What came of loading a version."""

    digest: str
    """SHA-256 of its manifest, which has the SHA-256 of all else."""
    fresh: bool
    """Is it other than the version that is served under its number?"""
    gpu_memory: dict[int, int] = field(default_factory=dict)
    """Bytes that it takes, by GPU."""


@dataclass(eq=False, slots=True)
class Version:
    """What an API needs of it."""

    manifest: Manifest
    engine: Engine
    metrics: VersionMetrics
    normalisers: dict[str, Normaliser]
    """By text input."""
    outputs: dict[str, int]
    """Position of each output."""
    label: str
    """The version number as responses and metrics give it."""
    provider: str
    """The execution provider that it runs on."""
    batch_rows: int
    """Rows of its largest batch."""
    digest: str
    """SHA-256 of its manifest."""
    gpu_memory: dict[int, int] = field(default_factory=dict)
    """Bytes that it takes, by GPU, as CUDA counts them; empty on the CPU."""
    shadow: Callable[[Request, Outputs], None] | None = None
    """Where another version is compared with this one: takes each answered request and its outputs."""
