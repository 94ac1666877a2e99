"""HTTP on a thread of its own. The only file that imports uvicorn.

It never waits for a client. Who sends no request, or half of one, has a few seconds; when there are too many
connections, the oldest of those that were never let in makes room, or else one that asks for nothing, or else the
oldest, so that clients that hang keep nobody else out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from functools import partial
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.errors import OutputError
from edge.page.admission import LET_IN

MOST_CONNECTIONS = 64
LONGEST_SILENCE_S = 5.0
LOOK_S = 0.25  # how often silent connections are looked for
GOOD_BYE_S = 1
STOP_S = 5.0
LARGEST_HEAD_BYTES = 16_384


class PageServer:
    """Serves an ASGI application until it is closed. OutputError when the port cannot be had."""

    def __init__(self, host: str, port: int, app: Any, longest_silence_s: float = LONGEST_SILENCE_S) -> None:
        listener = _listener(host, port)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # noise from clients is no news
        config = uvicorn.Config(
            app,
            http=partial(_Connection, longest_silence_s=longest_silence_s),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("Server", "oddkind")],
            limit_concurrency=2 * MOST_CONNECTIONS,
            timeout_keep_alive=int(LONGEST_SILENCE_S),
            timeout_graceful_shutdown=GOOD_BYE_S,
            h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="oddkind-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the port and every connection; safe to call twice."""
        self._server.should_exit = True
        self._thread.join(STOP_S)


class _Connection(H11Protocol):
    """A connection that is closed when it asks for nothing."""

    def __init__(self, *args: Any, longest_silence_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._longest_silence_s = longest_silence_s
        self._idle_since_s = self._began_s = monotonic()
        self._is_let_in = False
        self.app_state = {**self.app_state, LET_IN: self._let_in}  # every request has it in its scope

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more: another one makes room for it when there are too many."""
        super().connection_made(transport)
        all_ = [each for each in self.connections if isinstance(each, _Connection)]
        others = [each for each in all_ if each is not self and not each.transport.is_closing()]
        if len(others) >= MOST_CONNECTIONS:
            min(others, key=lambda each: each._worth).cut()
        self.loop.call_later(LOOK_S, self._look)

    def on_response_complete(self) -> None:
        """From now on it is silent again."""
        self._idle_since_s = monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether no answer is being given."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _worth(self) -> tuple[bool, bool, float]:
        """The least is cut first. A newcomer has had no time to ask, so among strangers age alone counts."""
        return self._is_let_in, self._is_let_in and not self.is_idle, self._began_s

    def _let_in(self) -> None:
        self._is_let_in = True

    def cut(self) -> None:
        """End it at once, with whatever was to be sent."""
        self.transport.abort()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.is_idle and monotonic() - self._idle_since_s > self._longest_silence_s:
            self.cut()
        else:
            self.loop.call_later(min(LOOK_S, self._longest_silence_s), self._look)


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP)[0]
        listener = socket.socket(family, kind, proto)  # asyncio sends small answers at once where it knows it is TCP
    except (OSError, UnicodeError) as exc:  # UnicodeError: a name that no host can have
        raise _refused(host, port, exc) from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart the old ones may linger
        listener.bind(address)
        listener.listen(MOST_CONNECTIONS)
    except OSError as exc:
        listener.close()
        raise _refused(host, port, exc) from exc
    return listener


def _refused(host: str, port: int, exc: Exception) -> OutputError:
    why = getattr(exc, "strerror", None) or exc
    return OutputError(f"http: {host}:{port} cannot be listened on ({why}); choose another port or host")
