"""A small HTTP client that tests ask a station's server with: one request a connection, nothing added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any


@dataclass(frozen=True)
class Answer:
    """status; headers: names in lower case; content: empty when only the head was asked for."""

    status: int
    headers: dict[str, str]
    content: bytes = b""

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)


def ask(
    port: int,
    path: str,
    body: object = None,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    head_only: bool = False,
) -> Answer:
    """GET, or POST of JSON where there is a body. head_only: for streams, which have no end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, content, headers or {})
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, b"" if head_only else answer.read())
    finally:
        connection.close()
