"""Records by HTTP POST, signed. The only file that uses http.client.

The signature is an HMAC-SHA256 over the time of sending, a dot and the body, so that a recorded request is of no use
later; docs/outputs.md shows how to verify it. Redirects are not followed: they would carry records elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import pydantic

from edge.outputs.credentials import secret_in, tls_context
from edge.outputs.database import Letter
from edge.outputs.outbox import Receiver, ReceiverOutput, Unreachable
from edge.station.control import Control
from edge.station.parts import StationPath

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from socket import socket

RETRIED = {408, 425, 429}  # of 4xx: not the record's fault
LONGEST_RETRY_AFTER_S = 60.0
EXCERPT_BYTES = 200  # of an answer that refuses, to show why
MAX_ANSWER_BYTES = 64 * 1024  # read so that the connection can be used again


class WebhookSettings(ReceiverOutput):
    """url: http or https, without a login in it. secret or secret_file: signs each request. timeout_s: a whole request.

    ca_file: PEM of who signed the server's certificate, when that is nobody the system knows.
    """

    url: str
    secret: pydantic.SecretStr | None = None
    secret_file: StationPath | None = None
    timeout_s: float = pydantic.Field(default=5.0, ge=0.1, le=120)
    ca_file: StationPath | None = None

    @pydantic.field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or not url.isascii() or any(c.isspace() for c in url):
            raise ValueError("expected an address such as https://host:8443/path")
        if parts.username is not None:
            raise ValueError("a login in the address would end up in logs; requests are signed with `secret` instead")
        return url

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("give `secret` or `secret_file`, not both")
        if self.secret is not None and not self.secret.get_secret_value():
            raise ValueError("`secret` is empty; leave it out to send unsigned")
        if self.ca_file and urlsplit(self.url).scheme != "https":
            raise ValueError("`ca_file` is of use with https:// only")
        return self

    @property
    def address(self) -> str:
        """Scheme, host and port: a path may be as good as a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def open(self, control: Control) -> Receiver:
        """The receiver of these settings."""
        return WebhookReceiver(self)

    def in_words(self) -> str:
        """Server, and whether requests are signed."""
        return f"webhook to {self.address}, {'signed' if self.secret or self.secret_file else 'not signed'}"


class WebhookReceiver(Receiver):
    """Posts one record after another over one kept connection; any 2xx settles a record.

    UsageError when a file that the settings name cannot be used.
    """

    name = "webhook"
    at_once = 20

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._parts = urlsplit(settings.url)
        self.address = settings.address
        self._secret = _secret(settings)
        self._tls = tls_context(settings.ca_file) if self._parts.scheme == "https" else None
        self._connection: HTTPConnection | None = None

    def deliver(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, str | None]]:
        """One request a letter, the next one only when the one before is settled."""
        for letter in letters:
            yield letter, self._post(letter)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _post(self, letter: Letter) -> str | None:
        """None, or why the record is refused."""
        is_kept = self._connection is not None and self._connection.sock is not None
        try:
            return self._exchange(letter)
        except ConnectionError as exc:
            self.close()
            if not is_kept:
                raise Unreachable(_why(exc)) from exc
        return self._post(letter)  # a server may close a kept connection without a word: once more, on a new one

    def _exchange(self, letter: Letter) -> str | None:
        """As `_post`; ConnectionError when the other side closed the connection."""
        from http.client import HTTPException

        body, timeout_s = letter.record.encode(), self._settings.timeout_s
        self._connection = self._connection or self._connect()
        deadline = _Deadline(self._connection, timeout_s)
        try:
            with deadline:
                self._connection.request("POST", self._target, body, self._headers(letter, body))
                response = self._connection.getresponse()
                answer = response.read(MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as exc:
            self.close()
            if deadline.has_passed or isinstance(exc, TimeoutError):
                raise Unreachable(f"no answer within {timeout_s:g} s") from exc
            if isinstance(exc, ConnectionError):
                raise
            raise Unreachable(_why(exc)) from exc
        if deadline.has_passed:  # cut off in its headers an answer looks complete
            self.close()
            raise Unreachable(f"no answer within {timeout_s:g} s")
        if not response.isclosed():  # more to read than we want to: start afresh
            self.close()
        return _verdict(response, answer)

    def _connect(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        host, port, timeout_s = self._parts.hostname or "", self._parts.port, self._settings.timeout_s
        if self._tls:
            return HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)
        return HTTPConnection(host, port, timeout=timeout_s)

    @property
    def _target(self) -> str:
        query = f"?{self._parts.query}" if self._parts.query else ""
        return (self._parts.path or "/") + query

    def _headers(self, letter: Letter, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "oddkind",
            "Idempotency-Key": letter.result_id,
        }
        if self._secret:
            timestamp = str(int(time.time()))
            headers |= {
                "X-Oddkind-Timestamp": timestamp,
                "X-Oddkind-Signature": signature(self._secret, timestamp, body),
            }
        return headers


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256, in hex, over `timestamp`, a dot and the body. timestamp: seconds since 1970."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _verdict(response: HTTPResponse, answer: bytes) -> str | None:
    """None when the record is taken, a reason when it never will be; Unreachable when it may be later."""
    status = f"{response.status} {response.reason}".strip()
    if 200 <= response.status < 300:
        return None
    if 300 <= response.status < 400:
        raise Unreachable(f"answers {status}; redirects are not followed, give the final address")
    if 400 <= response.status < 500 and response.status not in RETRIED:
        excerpt = " ".join(answer[:EXCERPT_BYTES].decode("utf-8", "replace").split())
        return f"{status}: {excerpt}" if excerpt else status
    raise Unreachable(f"answers {status}", _retry_after_s(response.getheader("Retry-After", "")))


def _retry_after_s(text: str) -> float:
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdecimal() else 0.0


class _Deadline:
    """Ends a whole request: a server that sends a byte now and then never runs into the socket's own time-out."""

    def __init__(self, connection: HTTPConnection, timeout_s: float) -> None:
        self.has_passed = False
        self._connection = connection
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True

    def _cut(self) -> None:
        self.has_passed = True
        open_socket: socket | None = self._connection.sock
        if open_socket:  # while it is being opened the socket's time-out holds
            with suppress(OSError):
                open_socket.shutdown(2)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _why(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _secret(settings: WebhookSettings) -> bytes | None:
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return secret_in(settings.secret_file).encode() if settings.secret_file else None
