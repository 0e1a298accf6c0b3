"""Frames that concern a connection as a whole: settings, pings, windows, and how it comes to its end."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from serving.transport.native import frames
from serving.transport.native.budget import Budget
from serving.transport.native.flow import Flow
from serving.transport.native.frames import (
    DEFAULT_WINDOW,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    STREAM_MASK,
    ErrorCode,
    PeerError,
)
from serving.transport.native.limits import Limits
from serving.transport.native.link import Link
from serving.transport.native.streams import MessageStream, UnaryStream

if TYPE_CHECKING:
    from serving.transport.native.transport import NativeTransport

AnyStream = UnaryStream | MessageStream

_AGE_PING: Final = b"goodbye?"
_MAX_SETTINGS: Final = 32
"""In one frame: there are six (section 6.5.2), and a window's size concerns every stream each time."""


class Control(Link):
    """A connection, its calls aside."""

    def __init__(self, server: "NativeTransport", limits: Limits) -> None:
        super().__init__(server, limits)
        self.streams: dict[int, AnyStream] = {}
        self.send_window = DEFAULT_WINDOW
        """Bytes of DATA that we may send, over all streams."""
        self.peer_window = DEFAULT_WINDOW
        """With how much a stream's own window for us begins."""
        self.blocked: dict[int, Flow] = {}
        """Streams that wait for room in a window."""
        self.unsent = 0
        """Bytes of DATA that wait so."""
        self.held: dict[int, Flow] = {}
        """Streams whose messages wait until fewer are unsent."""
        self.budget = Budget(limits, self.write)
        self._goaway_sent = False
        self._final = False
        """No stream above `_last_stream` is taken any more."""

    # What streams and the transport ask of us.

    def drained(self, size: int) -> None:
        """As many bytes wait no longer."""
        self.unsent -= size
        if self.held and self.unsent <= self.limits.max_unsent_bytes:
            self.later(self._unhold)

    def _unhold(self) -> None:
        for number, stream in tuple(self.held.items()):
            if self.unsent > self.limits.max_unsent_bytes:
                return
            if self.held.pop(number, None) is not None:
                stream.unhold()

    def drain(self) -> None:
        """Ask the client to go (section 6.8): first that it may, then, a round trip later, from which stream on."""
        if self._goaway_sent or self._closing:
            return
        self._goaway_sent = True
        if not self._final:
            self.write(frames.goaway(MAX_WINDOW, ErrorCode.NO_ERROR))
            self.write(frames.frame(frames.PING, 0, 0, _AGE_PING))
        if not self._greeted:
            self._close()
            return
        self._goodbye = self._loop.call_later(self.limits.keepalive_timeout, self._finalize)
        for stream in tuple(self.streams.values()):
            if isinstance(stream, MessageStream):
                stream.draining()

    def _finalize(self) -> None:
        """Take no more streams: the round trip is over, or the client makes none."""
        if not self._final and not self._closing:
            self._final = True
            self.write(frames.goaway(self._last_stream, ErrorCode.NO_ERROR))
            if not self.streams:
                self._close()

    # Frames, one method a type.

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.3: read and ignored."""
        self.patience.spend(1)
        if number == 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on no stream")
        if len(payload) != 5:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY that is not 5 bytes")

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.5."""
        self.patience.spend(1)
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with a payload")
            return
        if len(payload) % 6:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a length that none has")
        if len(payload) > 6 * _MAX_SETTINGS:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, f"more than {_MAX_SETTINGS} settings at once")
        for start in range(0, len(payload), 6):
            self._apply(int.from_bytes(payload[start : start + 2]), int.from_bytes(payload[start + 2 : start + 6]))
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        # Only now: what the new windows allow must come after the acknowledgement that they are known.
        self._pump()

    def _apply(self, key: int, value: int) -> None:
        """Section 6.5.2. Of what else there is, nothing concerns a server that neither pushes nor indexes."""
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "an initial window beyond 2^31 - 1")
            change = value - self.peer_window
            self.peer_window = value
            for stream in self.streams.values():
                stream.window += change
                if stream.window > MAX_WINDOW:
                    raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
        elif key == frames.MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 1 << 24:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"a maximum frame size of {value}")
        elif key == frames.ENABLE_PUSH and value > 1:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        """Section 8.4: not for clients to send."""
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.7. gRPC clients measure bandwidth with pings around DATA: they are answered at once."""
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a PING that is not 8 bytes")
        if flags & frames.ACK:
            self._pinged = False
            if payload == _AGE_PING and self._goaway_sent:
                self._finalize()
            return
        self.patience.spend(1)
        if not self.streams:
            self.patience.idle_ping(self._heard)
        self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.8: the client will open no more streams; those that are open go on."""
        self.patience.spend(1)
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY that is too short")
        self._finalize()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.9."""
        self.patience.spend(1)
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE that is not 4 bytes")
        increment = int.from_bytes(payload) & STREAM_MASK
        if number == 0:
            if not increment:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self.send_window += increment
            if self.send_window > MAX_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
            if self.blocked:
                self._pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number, "WINDOW_UPDATE")
            return
        stream.window += increment
        if not increment or stream.window > MAX_WINDOW:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)
        elif stream.id in self.blocked:
            stream.pump()

    # The rest.

    def _check_known(self, number: int, what: str) -> None:
        """A stream that is not open was, once, or else is one that the client was told not to open (section 5.1)."""
        if not number & 1 or (number > self._last_stream and not self._final):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"{what} on stream {number}, which is not open")

    @abstractmethod
    def _reset(self, stream: AnyStream, code: ErrorCode) -> None:
        """End a stream whose client broke a rule."""

    def _pump(self) -> None:
        for number, stream in tuple(self.blocked.items()):
            if self.send_window <= 0 or self.paused:
                return
            if number in self.blocked:
                stream.pump()
