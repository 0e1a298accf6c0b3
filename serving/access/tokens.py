"""Bearer tokens (RFC 6750): a file of their hashes, read anew when it changes, and the search for the one shown.

Tokens are random, 256 bits each, so one round of SHA-256 hides them: there is nothing to guess. The file is TOML, or
JSON where its name says so:

    [[tokens]]
    name = "alice"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["predict"]
    models = ["sentiment"]            # optional: no others
    expires = 2027-01-01T00:00:00Z    # optional
"""

import hashlib
import hmac
import json
import re
import secrets
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

Scope = Literal["predict", "manage"]
PREDICT: Final = "predict"
MANAGE: Final = "manage"

PREFIX: Final = "triptych_"
"""Of every token made here: scanners for secrets that were committed know what to look for."""

_TOKEN: Final = re.compile(re.escape(PREFIX) + r"[\w-]+")

MAX_TOKENS: Final = 1000
"""In one file: each is compared with what a client shows."""

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@/-]{0,62}\Z"


class TokenError(ValueError):
    """A tokens file that can't be used; the message says which and why."""


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token, of which only the hash is known. Several may have one name: so they are rotated."""

    name: Annotated[str, Meta(pattern=NAME)]
    """Of the client: that of its limits, and in logs."""
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: Annotated[frozenset[Scope], Meta(min_length=1)]
    models: frozenset[str] | None = None
    """The only ones that it is for; all where there is no list."""
    expires: Annotated[datetime, Meta(tz=True)] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: Annotated[list[Token], Meta(max_length=MAX_TOKENS)] = []


class Tokens:
    """All that are valid, now or later."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        """Each has its digest once, however many there are of its name."""
        self._tokens = tuple(
            (bytes.fromhex(token.sha256), token, float("inf") if token.expires is None else token.expires.timestamp())
            for token in tokens
        )

    def __contains__(self, token: Token) -> bool:
        """Is it one of them, all that is said of it included? Whether it has expired is another matter."""
        return any(token == known for _, known, _ in self._tokens)

    def find(self, shown: bytes, now: float) -> Token | None:
        """The token that a client shows, or None where it is none of them, or has expired.

        The time it takes tells nothing about any token: digests of one length are compared, each in constant time,
        and all of them, wherever the right one is.

        Args:
            shown: the token itself.
            now: seconds since the epoch.
        """
        digest = hashlib.sha256(shown).digest()
        found: Token | None = None
        for known, token, expires in self._tokens:
            same = hmac.compare_digest(known, digest)
            found = token if same and now < expires else found
        return found


def read(file: str) -> Tokens:
    """The tokens of a file.

    Raises:
        TokenError: it can't be read, or is not such a file.
    """
    try:
        text = Path(file).read_text("utf-8")
        found: Any = json.loads(text) if file.endswith(".json") else tomllib.loads(text)
        return Tokens(msgspec.convert(found, _File).tokens)
    except OSError as error:
        raise TokenError(f"tokens={file!r}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        # It shows names of fields and of scopes, where a token may have come to stand.
        raise TokenError(f"tokens={file!r}: {_TOKEN.sub('…', str(error))}") from None
    except RecursionError as error:
        raise TokenError(f"tokens={file!r}: nested too deeply") from error
    except UnicodeDecodeError as error:
        raise TokenError(f"tokens={file!r}: not UTF-8") from error
    except ValueError as error:
        # Of either parser: both say where, and neither repeats what is there.
        raise TokenError(f"tokens={file!r}: {error}") from error


def make() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(32)


def entry(
    token: str,
    name: str,
    scopes: Iterable[str],
    models: Iterable[str] | None = None,
    expires: datetime | None = None,
) -> str:
    """What a token's file says of it, in TOML, to be added to its end.

    Raises:
        TokenError: a name or scope that none can have.
    """
    lines: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "scopes": sorted(set(scopes)),
    }
    if models is not None:
        lines["models"] = sorted(set(models))
    written = [f"{key} = {json.dumps(value)}" for key, value in lines.items()]
    if expires is not None:
        lines["expires"] = expires
        written.append(f"expires = {expires.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}")
    try:
        msgspec.convert(lines, Token)
    except msgspec.ValidationError as error:
        raise TokenError(str(error)) from error
    return "\n".join(("[[tokens]]", *written, ""))
