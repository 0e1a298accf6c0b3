"""Listening addresses: `HOST:PORT` to a socket, or to the system's own words for why there is none."""

import os
import socket

from serving.transport.interface import TransportError

MAX_PORT = 65_535

BACKLOG = 1024
"""Connections that may wait to be accepted."""


def listen(address: str, backlog: int) -> socket.socket:
    """A socket that listens on `HOST:PORT`, of which HOST may be a name and PORT 0.

    Raises:
        TransportError: it can't be had; the message says which and why.
    """
    host, _, port = address.rpartition(":")
    if int(port) > MAX_PORT:
        # The resolver would take it modulo 65536.
        raise TransportError(f"can't listen on {address}: a port is at most {MAX_PORT}")
    try:
        family, _, _, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(target[:2], family=family, backlog=backlog)
    except socket.gaierror as error:
        raise TransportError(f"can't listen on {address}: {str(error.strerror).lower()}") from error
    except OSError as error:
        # asked of the system again: Python adds the address, in its own notation
        raise TransportError(f"can't listen on {address}: {os.strerror(error.errno or 0).lower()}") from error
    except UnicodeError as error:
        raise TransportError(f"can't listen on {address}: {error}") from error
