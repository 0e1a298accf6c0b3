"""What a peer's control frames cost, so that a flood of them ends its connection and honest traffic never does."""

import time
from collections.abc import Callable

from serving.transport.native.frames import ErrorCode, PeerError
from serving.transport.native.limits import Limits


class Patience:
    """Frames that do not themselves ask for an answer spend it; answers and time give it back."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._left = limits.patience
        self._refilled = clock()
        self._idle_pings = 0
        self._last_ping = 0.0
        self._late = 0
        """Bytes of DATA that may be on their way on streams that we have ended."""

    def earn(self, amount: int) -> None:
        """Something was answered: control frames that come with it are no flood."""
        self._left = min(self._left + amount, self._limits.patience)
        self._idle_pings = 0

    def spend(self, cost: int) -> None:
        """A control frame came.

        Raises:
            PeerError: there were too many, for the calls and the time that they came with.
        """
        self._left -= cost
        if self._left < 0:
            self._refill()

    def _refill(self) -> None:
        limits, now = self._limits, self._clock()
        self._left += int((now - self._refilled) * limits.patience_per_second)
        self._left = min(self._left, limits.patience)
        self._refilled = now
        if self._left < 0:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "more control frames than calls account for")

    def expect_late(self, size: int) -> None:
        """A stream was ended while its client might still send as much on it, not yet knowing."""
        self._late += size

    def late_data(self, size: int) -> None:
        """DATA came on a stream that is no more."""
        if 0 < size <= self._late:
            self._late -= size
        else:
            self.spend(1)

    def idle_ping(self, now: float) -> None:
        """Defend against keepalive that is too keen, as gRPC does (gRFC A8): a PING came while there was no call.

        Raises:
            PeerError: it came too soon after others.
        """
        limits = self._limits
        if now - self._last_ping < limits.min_ping_interval:
            self._idle_pings += 1
            if self._idle_pings > limits.max_pings_without_calls:
                raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        else:
            self._idle_pings = 0
        self._last_ping = now
