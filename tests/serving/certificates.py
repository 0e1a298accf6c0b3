"""Certificates for tests: a CA for servers, one for clients, and one that nobody trusts."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from serving.transport.live import LiveTls
from serving.transport.tls import Tls

NAME = "localhost"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Certificates:
    """All in PEM. The server's is of `localhost` and 127.0.0.1."""

    ca: str
    client_ca: str
    other_ca: str
    server: Identity
    client: Identity
    stranger: Identity
    """A client whose CA is not the one that is asked for."""


def live(tls: Tls) -> LiveTls:
    """As a transport takes it; nobody hears of what becomes of its files."""
    return LiveTls(tls, lambda kind, *, loaded: None, lambda when: None)


def issue(folder: Path) -> Certificates:
    ca, client_ca, other_ca = trustme.CA(), trustme.CA(), trustme.CA()
    return Certificates(
        ca=_root(folder, "ca", ca),
        client_ca=_root(folder, "client-ca", client_ca),
        other_ca=_root(folder, "other-ca", other_ca),
        server=identity(folder, "server", ca),
        client=identity(folder, "client", client_ca),
        stranger=identity(folder, "stranger", other_ca),
    )


def identity(
    folder: Path, name: str, ca: trustme.CA, kind: trustme.KeyType = trustme.KeyType.ECDSA, host: str = NAME
) -> Identity:
    issued = ca.issue_cert(host, "127.0.0.1", key_type=kind)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return Identity(str(certificate), str(key))


def _root(folder: Path, name: str, ca: trustme.CA) -> str:
    file = folder / f"{name}.pem"
    ca.cert_pem.write_to_path(str(file))
    return str(file)
