"""What a station needs to prove itself, read from files; a message names the file, never what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import UsageError

if TYPE_CHECKING:
    from ssl import SSLContext


def secret_in(path: Path) -> str:
    """First line of a file; UsageError when there is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        raise UsageError(f"{path}: the secret in it cannot be read ({reason})") from exc
    if not lines or not lines[0]:
        raise UsageError(f"{path}: expected a secret in its first line, got nothing")
    return lines[0]


def tls_context(ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None) -> SSLContext:
    """Verifies the other side, by `ca_file` or what the system trusts; shows a certificate of our own if given.

    UsageError when a file cannot be used. All are PEM; without `key_file` the key stands in `cert_file`.
    """
    import ssl  # a station without TLS does not pay for it

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one too
        raise UsageError(f"{ca_file}: certificates in PEM cannot be read from it ({exc.strerror or exc})") from exc
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except (OSError, ValueError) as exc:
            names = f"{cert_file}{f' and {key_file}' if key_file else ''}"
            raise UsageError(f"{names}: not a certificate and its key in PEM, without password") from exc
    return context


def _no_password() -> str:
    """OpenSSL would otherwise ask on the terminal and wait."""
    return ""
