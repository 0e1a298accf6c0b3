"""How much a peer may ask of a connection: every number that bounds one, in one place."""

import math
from dataclasses import dataclass

from serving.transport.interface import AGE_GRACE_SECONDS, MAX_CONNECTIONS
from serving.transport.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection."""

    max_message_bytes: int = 4 * 1024 * 1024
    max_streams: int = 1024
    """Calls in flight; announced as SETTINGS_MAX_CONCURRENT_STREAMS."""
    max_header_block_bytes: int = 16 * 1024
    """Encoded, over HEADERS and all its CONTINUATION frames: together with the bound on what it unpacks to,
    this is what a flood of CONTINUATION frames meets."""
    max_continuations: int = 16
    """Frames of one header block after the first, empty ones counted."""
    connection_window: int = 1024 * 1024
    """Bytes of DATA that may be on their way to us at once."""
    message_budget: int = 16 * 1024 * 1024
    """Bytes beyond the default windows that large messages of one connection may hold together. A message is
    given room for all of itself or waits, so that those that were given room always come to their end."""
    patience: int = 2000
    """Control frames (PING, SETTINGS, RST_STREAM, PRIORITY, WINDOW_UPDATE, empty DATA) that may come before
    the next call is answered; every answered call gives `patience_per_call` back."""
    patience_per_call: int = 20
    patience_per_frame: int = 4
    """What every DATA frame that we send gives back: clients acknowledge them, and ping to measure them."""
    patience_per_second: int = 200
    """What time gives back: clients may cancel what is not answered in time."""
    max_pings_without_calls: int = 10
    """PINGs that may come in a row while no call is in flight, within `min_ping_interval` of each other."""
    min_ping_interval: float = 5.0
    handshake_timeout: float = HANDSHAKE_SECONDS
    """Seconds in which TLS, where it is spoken, must have been agreed on."""
    shutdown_timeout: float = SHUTDOWN_SECONDS
    """Seconds in which the peer must say goodbye to it, once we have."""
    preface_timeout: float = 10.0
    """Seconds in which a connection must have said that it speaks HTTP/2."""
    keepalive_interval: float = 60.0
    """Seconds of silence after which the peer is pinged."""
    keepalive_timeout: float = 20.0
    """Seconds in which it must then have answered."""
    max_unsent_bytes: int = 32 * 1024 * 1024
    """Of answers that wait for the client to open its windows, beyond which no more is taken from its streams;
    beyond twice as much, no unary call is begun either: so streams that are not read never block the others."""
    write_buffer_bytes: int = 256 * 1024
    """Unsent bytes beyond which no more is read from a peer that does not read either."""
    stall_timeout: float = 30.0
    """Seconds for which a peer may leave them unread before its connection is cut."""
    max_connections: int = MAX_CONNECTIONS
    """Of all clients together: one more is told to go at once, with ENHANCE_YOUR_CALM."""
    max_age: float = math.inf
    """Seconds, give or take a tenth, after which a connection is asked to go, so that its calls spread over servers
    again (gRFC A9)."""
    age_grace: float = AGE_GRACE_SECONDS
    """Seconds in which the calls on it must then come to their end."""
