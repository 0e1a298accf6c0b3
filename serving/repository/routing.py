"""What control tells the servers: which versions of a model answer, and to which names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from serving.repository.version import Prepared


@dataclass(frozen=True)
class Routing:
    """One model. It holds from one commit to the next, as a whole: no request sees half of it."""

    versions: tuple[int, ...] = ()
    """Those that are served."""
    default: int | None = None
    """What answers where a request names no version."""
    labels: dict[str, int] = field(default_factory=dict)
    candidate: int | None = None
    """A version that is compared with the default one on ..."""
    fraction: float = 0.0
    """... this share of its requests."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why versions that were found are not served."""
    note: str = ""
    """Why nothing answers by default although versions are served, or may be."""
    needed: bool = True
    """Is the server not ready without a version of it?"""
    digests: dict[int, str] = field(default_factory=dict, compare=False)
    """Which packages the versions are, where that is known."""


def without(routing: Routing, reasons: Mapping[int, str]) -> Routing:
    """The same for one who lacks versions, for these reasons."""
    return replace(
        routing,
        versions=tuple(number for number in routing.versions if number not in reasons),
        default=None if routing.default in reasons else routing.default,
        labels={label: number for label, number in routing.labels.items() if number not in reasons},
        candidate=None if routing.candidate in reasons else routing.candidate,
        reasons={**routing.reasons, **reasons},
    )


class Fleet(Protocol):
    """Those who serve: the models of this process, or those of several workers."""

    @property
    def lacking(self) -> Mapping[tuple[str, int], str]:
        """Versions, by model and number, that are served and that some could not load when they came, and why."""

    def prepare(self, wanted: "Wanted") -> Prepared:
        """Load and verify a version, which then waits to be committed.

        Raises:
            LoadError: it is not fit to be served.
        """

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        """Serve these models so from now on, and None no more; what was prepared and is not named is let go."""


@dataclass(frozen=True)
class Wanted:
    """A package to be loaded."""

    folder: str
    name: str
    version: int
    digest: str | None = None
    """If it must be the very package that was tried out."""
