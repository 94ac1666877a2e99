"""Asking a running station how it is, as Docker and scripts do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from typing import Any

from edge.errors import UsageError
from edge.notify import one_line
from edge.station.file import Station

LONGEST_ANSWER_BYTES = 1_000_000


@dataclass(frozen=True)
class Answer:
    """is_healthy: whether every camera has given a verdict not long ago. words: one line for a person."""

    is_healthy: bool
    words: str


def ask_health(station: Station, timeout_s: float = 5.0) -> Answer:
    """What `GET /health` of the running station says; one that does not answer is not healthy.

    UsageError when the station file has no `outputs.http`, where it would answer.
    """
    http = station.outputs.http
    if http is None:
        raise UsageError("this station answers nobody; give it outputs.http, such as http: {port: 9109}")
    host = _reachable(http.host)
    where = f"http://[{host}]:{http.port}/health" if ":" in host else f"http://{host}:{http.port}/health"
    connection = HTTPConnection(host, http.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health", headers=_headers(http))
        response = connection.getresponse()
        return _answer(where, response.status, response.read(LONGEST_ANSWER_BYTES))
    except (OSError, HTTPException) as exc:
        return Answer(False, f"no answer from {where}: {one_line(exc) or type(exc).__name__}; is the station running?")
    finally:
        connection.close()


def _answer(where: str, status: int, content: bytes) -> Answer:
    try:
        report = json.loads(content)
        state, reason = str(report["state"]), report.get("reason")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer(False, f"{where} answered {status}, not as a station does; does something else listen there?")
    return Answer(status == 200, f"{state}: {' '.join(str(reason).split())}" if reason else state)


def _reachable(host: str) -> str:
    """An address that stands for all of this machine's cannot be connected to everywhere; its loopback can."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _headers(http: Any) -> dict[str, str]:
    """A station that listens beyond loopback asks for a token."""
    read_token = getattr(http, "read_token", None)
    token = read_token() if read_token else None
    return {"Authorization": f"Bearer {token}"} if token else {}
