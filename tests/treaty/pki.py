"""Certificates for tests: authorities that exist for one run, and files as `[tls]` names them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from virt_preflight.treaty.certificates import Files

PAST = datetime.now(UTC) - timedelta(days=9)
SOON = datetime.now(UTC) + timedelta(days=9)


def issue(
    folder: Path,
    ca: trustme.CA,
    *names: str,
    common_name: str | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Files:
    """A certificate of that authority with its key, in files of that folder."""
    made = ca.issue_cert(
        *names, common_name=common_name, not_before=not_before, not_after=not_after
    )
    folder.mkdir(exist_ok=True)
    files = Files(ca=folder / "cacert.pem", cert=folder / "cert.pem", key=folder / "key.pem")
    ca.cert_pem.write_to_path(files.ca)
    files.key.write_bytes(made.private_key_pem.bytes())
    files.cert.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    return files
