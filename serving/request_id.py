"""What a request is called in logs, traces and errors: by its client, where that is safe to repeat, else by us."""

import random
import re
from typing import Final

HEADER: Final = "x-request-id"
"""The key in a call's metadata, and the field in the head of an HTTP request."""

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
"""No space, quote, control or escape: an id stands in logs and headers as it is."""


def accepted(wanted: str | bytes | None) -> str | None:
    """The id that a client gave, or None where there is none that can be used."""
    if isinstance(wanted, bytes):
        wanted = wanted.decode("ascii", "replace")
    return wanted if wanted is not None and _ACCEPTED.fullmatch(wanted) else None


def made() -> str:
    """A new one: 64 random bits. It need be found again in some days of logs, not be a secret."""
    return f"{random.getrandbits(64):016x}"
