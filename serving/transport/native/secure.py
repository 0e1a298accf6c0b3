"""A connection over TLS: it is spoken on only if the handshake agreed on HTTP/2."""

import asyncio
from typing import Final, cast

from serving.transport.native.connection import Connection
from serving.transport.tls import ALPN

_PIECE_BYTES: Final = 64 * 1024


class SecureConnection(Connection):
    """One connection, once its handshake is through."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """HTTP/2 over TLS is for those who asked for it (RFC 9113, section 3.2); others would not understand a GOAWAY.

        The version of TLS, and its ciphers (section 9.2), the handshake itself has seen to.
        """
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == ALPN:
            super().connection_made(transport)
            # All of ours is passed on before there is to be more: what is left then is in the socket's buffer.
            self._transport.set_write_buffer_limits(high=self.limits.write_buffer_bytes, low=0)
            return
        self._begin(cast("asyncio.Transport", transport))
        self._closing = True
        self._server.cut(self.peer, "it did not ask for h2 (ALPN)")
        self._transport.close()

    def resume_writing(self) -> None:
        """It reads again, and may have all by now that it is owed."""
        super().resume_writing()
        if self._closing:
            self._transport.close()

    def _flush(self) -> None:
        """Piece by piece: what is written is encrypted and passed on at once as long as the socket takes more.

        In one piece, however large, it would all be in the socket's buffer before anyone asks how full that is, and
        `pause_writing` never be called.
        """
        self._flushing = False
        out, self._out = self._out, []
        if self._transport.is_closing():
            return
        data = b"".join(out)
        if len(data) <= _PIECE_BYTES:
            self._transport.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _PIECE_BYTES):
            self._transport.write(view[start : start + _PIECE_BYTES])

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self._flush()
            # Once closed, TLS gives a peer a few seconds for all that is unsent; a slow reader needs more.
            if not self.paused:
                self._transport.close()
