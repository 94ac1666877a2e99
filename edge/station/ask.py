"""Asking a running station, as scripts, Docker and people at a terminal do: over the HTTP that its file describes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from typing import Any

from edge.errors import ControlError, UsageError
from edge.notify import one_line
from edge.station.file import Station

LONGEST_ANSWER_BYTES = 1_000_000


@dataclass(frozen=True)
class Health:
    """is_healthy: whether every camera has given a verdict not long ago. words: one line for a person."""

    is_healthy: bool
    words: str


def ask_health(station: Station, timeout_s: float = 5.0) -> Health:
    """How the running station is; one that does not answer is not healthy. UsageError without `outputs.http`."""
    try:
        status, report = _ask(station, "GET", "/health", None, timeout_s)
    except ControlError as exc:
        return Health(False, str(exc))
    if "state" not in report:
        return Health(False, _refusal(status, report) or "it answers, but not as a station does")
    state, reason = _plain(report["state"]), report.get("reason")
    return Health(status == 200, f"{state}: {_plain(reason)}" if reason else state)


def ask(station: Station, command: str, given: dict[str, Any] | None = None, timeout_s: float = 5.0) -> str:
    """Have the running station do `command`: arm, pause, trigger or master; its answer in one line for a person.

    given: keys of `edge.station.command.Command` beside it. ControlError when it will not, or does not answer.
    """
    status, answer = _ask(station, "POST", f"/api/{command}", given or {}, timeout_s)
    if status != 200:
        raise ControlError(_refusal(status, answer) or f"it answered {status}")
    number = f"trigger {answer['trigger_id']}; " if "trigger_id" in answer else ""
    reason = f": {_plain(answer['reason'])}" if answer.get("reason") else ""
    return f"{number}{_plain(answer.get('state', 'done'))}{reason}"


def _ask(
    station: Station, method: str, path: str, given: dict[str, Any] | None, timeout_s: float
) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON object of the answer."""
    http = station.outputs.http
    if http is None:
        raise UsageError("this station answers nobody; give it outputs.http, such as http: {port: 8080}")
    host = _reachable(http.host)
    where = f"http://[{host}]:{http.port}{path}" if ":" in host else f"http://{host}:{http.port}{path}"
    token = http.read_token()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection = HTTPConnection(host, http.port, timeout=timeout_s)
    try:
        connection.request(method, path, None if given is None else json.dumps(given), headers)
        response = connection.getresponse()
        answer = json.loads(response.read(LONGEST_ANSWER_BYTES))
    except (OSError, HTTPException) as exc:
        raise ControlError(f"no answer from {where}: {_why(exc)}; is the station running?") from exc
    except ValueError as exc:
        raise ControlError(f"{where} answers, but not as a station does; does something else listen there?") from exc
    finally:
        connection.close()
    return response.status, answer if isinstance(answer, dict) else {}


def _refusal(status: int, answer: dict[str, Any]) -> str | None:
    """Why it refuses, None when it does not say."""
    if status == 401:
        return "the station has another token than this file; compare token or token_file of outputs.http"
    return _plain(answer["error"]) if answer.get("error") else None


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return "it took too long" if isinstance(exc, TimeoutError) else _plain(one_line(exc))


def _plain(text: object) -> str:
    """On one line, and nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(text).split()))


def _reachable(host: str) -> str:
    """An address that stands for all of this machine's cannot be connected to everywhere; its loopback can."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
