"""What a client needs to reach a server over TLS: whom to trust, and, where asked, who it is itself."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

File = str | os.PathLike[str]


@dataclass(frozen=True)
class Tls:
    """Files in PEM. `Tls()` alone trusts the public certificate authorities that gRPC brings."""

    ca: File | None = None
    """Certificates that the server's own must lead to, instead of the public ones."""
    certificate: File | None = None
    """The client's own, for a server that asks for one, and those between it and its root."""
    key: File | None = None
    """Its private key."""
    server_name: str | None = None
    """The name that the server's certificate must have, where that is not the one in the address."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client's certificate and its key go together: give both, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC. Raises OSError for a file that can't be read."""
        ca, key, certificate = (
            None if file is None else Path(file).read_bytes() for file in (self.ca, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def options(self) -> list[tuple[str, Any]]:
        """For gRPC's channel."""
        return [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]
