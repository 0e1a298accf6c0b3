"""Which versions of a model are served, by what names, and which one is tried beside them: `serving.toml`.

The file lies in the model's folder, beside its versions. It belongs to whoever runs the server, where a package
belongs to whoever trained it; without it, all versions are served, or what `--versions` says.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

FILE = "serving.toml"
MAX_BYTES = 64 * 1024

STABLE = "stable"
"""The label that answers where a request names no version."""

VERSIONS = r"all|latest:[1-9][0-9]{0,8}"

Label = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Number = Annotated[int, Meta(ge=1)]


class PolicyError(ValueError):
    """A file that can't be used; the message says where and what was expected."""


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that a share of the live requests runs on as well, to be compared and never returned."""

    candidate: Number | Label
    fraction: Annotated[float, Meta(gt=0, le=1)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `serving.toml` says."""

    versions: Annotated[str, Meta(pattern=f"^({VERSIONS})$")] | tuple[Number, ...] = "all"
    labels: dict[Label, Number] = {}
    shadow: Shadow | None = None

    @property
    def latest(self) -> int | None:
        """How many of the highest versions are served; None where it is not a matter of number."""
        if isinstance(self.versions, str) and self.versions != "all":
            return int(self.versions.partition(":")[2])
        return None

    @property
    def pinned(self) -> set[int]:
        """Versions that are served whatever the number: those with a label, and the candidate."""
        return set(self.labels.values()) | {n for n in (self.candidate,) if n is not None}

    @property
    def candidate(self) -> int | None:
        """The number of the version that is compared."""
        if self.shadow is None or isinstance(self.shadow.candidate, int):
            return self.shadow and self.shadow.candidate  # type: ignore[return-value]
        return self.labels.get(self.shadow.candidate)

    def choose(self, found: Iterable[int]) -> list[int]:
        """Of the versions found, those that may be served, highest first; of `latest` more than will be."""
        if isinstance(self.versions, tuple):
            return sorted({*self.versions, *self.pinned} & set(found), reverse=True)
        return sorted(found, reverse=True)


def fingerprint(folder: Path) -> tuple[int, ...]:
    """Changes when the file does."""
    try:
        status = (folder / FILE).stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def read(folder: Path, default: str) -> Policy:
    """The policy of the model in `folder`; `default` is what its `versions` are where it does not say.

    Raises:
        PolicyError: the file is there and can't be used.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Policy(versions=default)
    except OSError as error:
        raise PolicyError(f"{FILE}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{FILE}: more than {MAX_BYTES} bytes")
    try:
        values: dict[str, Any] = {"versions": default} | tomllib.loads(data.decode())
        policy = msgspec.convert(values, Policy)
    except msgspec.ValidationError as error:
        raise PolicyError(
            f'{FILE}: {error}; there are: versions ("all", "latest:N" or a list of numbers), [labels] (names of '
            "a-z, 0-9 and -, beginning with a letter) and [shadow] (candidate, fraction)"
        ) from error
    except (ValueError, RecursionError) as error:  # of tomllib or of decoding
        raise PolicyError(f"{FILE}: {error}") from error
    if policy.shadow is not None and policy.candidate is None:
        raise PolicyError(f"{FILE}: shadow.candidate: there is no label {policy.shadow.candidate!r}")
    return policy
