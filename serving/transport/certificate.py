"""When a certificate expires: the one thing of it that Python's ssl does not tell a server of its own."""

import ssl
from datetime import UTC, datetime
from typing import Final

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


def not_after(pem: bytes) -> float:
    """The end of the first certificate's validity (RFC 5280, section 4.1), in seconds since the epoch.

    Raises:
        ValueError: it is no certificate.
    """
    start, end = pem.find(_BEGIN), pem.find(_END)
    try:
        der = ssl.PEM_cert_to_DER_cert((pem[start:end] + _END).decode("ascii"))
        # Certificate, TBSCertificate; then version (if any), serial number, signature algorithm and issuer.
        place = _inside(der, _inside(der, 0))
        if der[place] == _VERSION:
            place = _after(der, place)
        for _ in range(3):
            place = _after(der, place)
        until = _after(der, _inside(der, place))
        begin, stop = _bounds(der, until)
        text = der[begin:stop].decode("ascii")
        if der[until] == _UTC_TIME:
            # Years from 50 are of the last century (section 4.1.2.5.1).
            text = ("19" if int(text[:2]) >= 50 else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError) as error:
        raise ValueError("its first certificate has no time of expiry that can be read") from error


def _bounds(der: bytes, place: int) -> tuple[int, int]:
    """Where the value at a place begins and ends (X.690, section 8.1.3)."""
    length, begin = der[place + 1], place + 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(der[place + 2 : begin])
    return begin, begin + length


def _inside(der: bytes, place: int) -> int:
    return _bounds(der, place)[0]


def _after(der: bytes, place: int) -> int:
    return _bounds(der, place)[1]
