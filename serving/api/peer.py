"""Who is at the other end of a connection: an address, and the name in a certificate where one was shown."""

from collections.abc import Mapping
from typing import Any


class Peer(str):
    """An address, as gRPC writes it: `ipv4:192.0.2.1:5000`."""

    __slots__ = ("identity",)

    identity: str
    """From the client's certificate, which was verified; empty where it has none."""


def named(address: str, identity: str) -> Peer:
    """Whoever is at an address, with that identity."""
    made = Peer(address)
    made.identity = identity
    return made


def located(host: str, port: int, identity: str = "") -> Peer:
    """The same, from the parts of an address."""
    return named(f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}", identity)


def certified(certificate: Mapping[str, Any] | None) -> str:
    """The identity in a certificate, as `ssl` gives it: the first URI or DNS name it is for, else its common name.

    A URI comes first, as that is how SPIFFE names workloads.
    """
    if not certificate:
        return ""
    names: dict[str, str] = {}
    for kind, value in certificate.get("subjectAltName", ()):
        names.setdefault(kind, value)
    for attributes in certificate.get("subject", ()):
        for kind, value in attributes:
            names.setdefault(kind, value)
    return next((names[kind] for kind in ("URI", "DNS", "commonName") if names.get(kind)), "")
