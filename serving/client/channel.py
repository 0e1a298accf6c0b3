"""How a client reaches its servers: address, load balancing, retries, limits."""

import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import grpc

from serving.client.messages import PREDICT_STREAM, Call
from serving.client.tls import Tls

Address: TypeAlias = str | Sequence[str]
"""`host:port`, any other gRPC target such as `dns:///name:port`, or several `IP:port`."""

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

Token: TypeAlias = str | Callable[[], str]

DEFAULT_ADDRESS = "localhost:8001"

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            # The server answers UNAVAILABLE only for what it never started, and a prediction has no
            # side effects: it is safe to ask again. gRPC adds the jitter. Nothing else is retried: a
            # full server is not helped by being asked more often.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # gRPC's defaults look for a server that went away every two minutes and ask DNS at most every half
    # minute, which is slower than a rollout replaces servers.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Notices a peer that vanished without closing the connection. Only while calls are in flight:
    # servers treat pings on an idle connection as abuse.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Every topic of a request of the server's largest size is more than gRPC's default of 4 MiB. What
    # may be sent is for the server to say.
    ("grpc.max_receive_message_length", 64 * 2**20),
)


def target(address: Address | None) -> str:
    """The gRPC target for an address; without one, that of TRIPTYCH_ADDRESS, else localhost:8001.

    Raises ValueError for a list that is not of `IP:port`, all of one IP version.
    """
    if address is None:
        return os.environ.get("TRIPTYCH_ADDRESS") or DEFAULT_ADDRESS
    if isinstance(address, str):
        return address
    versions = {_ip_version(one) for one in address}
    if len(versions) != 1:
        raise ValueError("a list of addresses takes at least one, and either all IPv4 or all IPv6")
    return f"ipv{versions.pop()}:{','.join(address)}"


def _ip_version(address: str) -> int:
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        ip = None
    if ip is None or not port.isdecimal() or (ip.version == 6) != host.startswith("["):
        raise ValueError(
            f"a list of addresses takes '192.0.2.1:8001' or '[2001:db8::1]:8001', not {address!r}; "
            "for a name that stands for several servers give 'dns:///name:port' instead of a list"
        )
    return ip.version


class Connection:
    """What both clients are, but for the way they wait: a channel, and the defaults of every call on it."""

    _grpc: ClassVar[Any]
    """`grpc` or `grpc.aio`: the same functions, for threads or for an event loop."""

    def __init__(
        self,
        address: Address | None = None,
        *,
        timeout: float = 10.0,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        token: Token | None = None,
    ) -> None:
        """Make a client, which connects with its first call.

        Raises ValueError for a list that is not of `IP:port`, and OSError for a file of `tls` that can't be read.

        Args:
            address: `host:port`, another gRPC target, or a list of `IP:port`; every address that the
                target stands for takes its turn. None: the environment's TRIPTYCH_ADDRESS, else localhost:8001.
            timeout: seconds a call may take, its retries included, unless it says otherwise.
            tls: for a server that speaks it. None: no encryption.
            credentials: what else gRPC can do, instead of `tls`.
            metadata: sent with every call.
            token: shown with every call, to a server that asks for one; or what gives it, asked before every call,
                for one that is renewed. Without `tls`, whoever is on the way can read it.

        """
        self._timeout = timeout
        self._fixed_metadata = tuple(metadata)
        self._token = token
        options = [*OPTIONS]
        if tls is not None:
            if credentials is not None:
                raise ValueError("give either tls or credentials")
            credentials = tls.credentials()
            options += tls.options()
        self._channel = (
            self._grpc.insecure_channel(target(address), options=options)
            if credentials is None
            else self._grpc.secure_channel(target(address), credentials, options=options)
        )

    @property
    def _metadata(self) -> Metadata:
        token = self._token() if callable(self._token) else self._token
        if token is None:
            return self._fixed_metadata
        if not token.isascii() or not token.isprintable() or " " in token or not token:
            # gRPC would say so, too, and repeat it.
            raise ValueError("a token is printable ASCII, without spaces")
        return (*self._fixed_metadata, ("authorization", f"Bearer {token}"))

    def _start(self, call: Call[Any], timeout: float | None) -> Any:
        """The answer's bytes, or the awaitable of them.

        Does not wait for a server to turn up: a client with nobody to ask should hear of it at once,
        and the retries bridge a short gap.
        """
        deadline = self._timeout if timeout is None else timeout
        message = call.request.SerializeToString()
        return self._channel.unary_unary(call.method)(message, timeout=deadline, metadata=self._metadata)

    def _stream(self, messages: Any) -> Any:
        """The answers, as they come, to what an iterator gives: one stream, without a deadline of its own."""
        return self._channel.stream_stream(PREDICT_STREAM)(messages, metadata=self._metadata)
