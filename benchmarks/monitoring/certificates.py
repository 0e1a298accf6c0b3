"""Certificates that last as long as is wished."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

_CA = trustme.CA()


def issue(folder: Path, days: float) -> None:
    """Write `tls.crt`, of localhost, and `tls.key` into `folder`, in place of what is there."""
    issued = _CA.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=days))
    issued.private_key_pem.write_to_path(str(folder / "tls.key"))
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
