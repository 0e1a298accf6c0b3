"""How much a client may ask of HTTP: every number that bounds one, in one place; bodies are the API's to bound."""

from dataclasses import dataclass

from serving.transport.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection, and of how many there are."""

    max_connections: int = 1024
    """Beyond them a client is told to come again, and sent away."""
    max_head_bytes: int = 16 * 1024
    """Target and fields of one request; also what else may come that is neither part of a body nor ends a head,
    such as trailers and the extensions of chunks."""
    max_fields: int = 100
    max_pipelined: int = 16
    """Requests that wait for the one before them on their connection."""
    head_seconds: float = 10.0
    """From a connection's beginning, or a later head's, until that head is there."""
    body_seconds: float = 60.0
    """From the head until all of the body is there."""
    idle_seconds: float = 75.0
    """Between an answer and the next request; longer than what proxies keep connections for, so that it is they
    who close them: only who closes knows that no request is on its way."""
    stall_seconds: float = 30.0
    """For which a client may leave an answer unread."""
    handshake_seconds: float = HANDSHAKE_SECONDS
    """In which TLS, where it is spoken, must have been agreed on."""
    shutdown_seconds: float = SHUTDOWN_SECONDS
    """In which the client must say goodbye to it, once we have."""
    settle_seconds: float = 0.25
    """At the end, for which a connection is still open that waits for a request: one may be on its way."""
