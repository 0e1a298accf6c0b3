"""TLS for every transport: certificate, key and the clients' CA, held to one set of rules.

Python reads the files for all, since gRPC's core says of what it can't use only that it can't.
"""

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from serving.transport.certificate import not_after

HANDSHAKE_SECONDS: Final = 10.0
"""In which a connection must have made its handshake: until then it costs us memory and its client nothing."""

SHUTDOWN_SECONDS: Final = 5.0
"""For a peer to say goodbye after we did."""

ALPN: Final = "h2"
"""What HTTP/2 over TLS is called in the handshake (RFC 9113, section 3.2)."""

HTTP_ALPN: Final = "http/1.1"
"""What HTTP/1.1 is (RFC 7301, section 6)."""

# Of TLS 1.2, what RFC 9113's Appendix A leaves: ephemeral keys and AEAD. Those of TLS 1.3 are all good.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


_MISMATCHES: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that is not the certificate's: the last where it is of another kind."""


class TlsError(ValueError):
    """A file that can't be used; the message begins with the setting that names it."""


class Loaded(NamedTuple):
    """What was made of the files at one time."""

    grpc: ssl.SSLContext
    """For the native transport."""
    http: ssl.SSLContext
    key: bytes
    certificate: bytes
    client_ca: bytes | None
    """The files themselves, for gRPC's core."""
    expires: float
    """When the server's own certificate does, in seconds since the epoch."""


@dataclass(frozen=True)
class Tls:
    """Where the files are."""

    certificate: str
    """PEM: the server's own certificate, and those between it and its root."""
    key: str
    """PEM: the certificate's private key, not encrypted."""
    client_ca: str = ""
    """PEM: the certificates that clients' own must lead to; where empty, clients need none."""

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(file for file in (self.certificate, self.key, self.client_ca) if file)

    def load(self) -> "Loaded":
        """Read the files.

        Raises:
            TlsError: one is missing, or not what it should be, or the key is not the certificate's.
        """
        key, certificate = _read("tls_key", self.key), _read("tls_certificate", self.certificate)
        return Loaded(
            self.context((ALPN,)),
            self.context((HTTP_ALPN,)),
            key,
            certificate,
            _read("tls_client_ca", self.client_ca) if self.client_ca else None,
            _expires(self.certificate, certificate),
        )

    def context(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """What asyncio needs, to speak one of these protocols.

        Raises:
            TlsError: as `load`.
        """
        _read("tls_certificate", self.certificate)
        _read("tls_key", self.key)
        _check_certificates("tls_certificate", self.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # RFC 9113, section 9.2: TLS 1.2 at least, no compression, no renegotiation.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(protocols)
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._no_password)
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise TlsError(f"tls_key={self.key!r}: not the key of {self.certificate}") from error
            raise TlsError(f"tls_key={self.key!r}: {_words(error, 'not a private key in PEM')}") from error
        except OSError as error:  # taken away since it was read
            raise TlsError(f"tls_certificate={self.certificate!r}: {error.strerror}") from error
        if self.client_ca:
            _read("tls_client_ca", self.client_ca)
            _check_certificates("tls_client_ca", self.client_ca)
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _no_password(self) -> str:
        # Python would ask for it on the terminal, which a server has not.
        raise TlsError(f"tls_key={self.key!r}: encrypted; it must be readable without a password")


def _read(setting: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsError(f"{setting}={file!r}: {error.strerror}") from error


def _check_certificates(setting: str, file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError as error:
        raise TlsError(f"{setting}={file!r}: {_words(error, 'no certificate in PEM')}") from error


def _expires(file: str, certificate: bytes) -> float:
    try:
        return not_after(certificate)
    except ValueError as error:
        raise TlsError(f"tls_certificate={file!r}: {error}") from error


def _words(error: ssl.SSLError, unknown: str) -> str:
    """OpenSSL's reason, where it has one that says more than that there is a file."""
    reason = error.reason or ""
    if "NO_CERTIFICATE" in reason or "PEM" in reason or "NO_START_LINE" in reason or not reason:
        return unknown
    return reason.replace("_", " ").lower()
