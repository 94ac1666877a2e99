"""A tiny read-only HTTP server: some pages, made anew for every GET.

It never waits for a client. A connection has a thread and a few seconds; when there are too many, the oldest is closed,
so that clients that hang keep nobody else out.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from typing import Any

from edge.errors import OutputError

MOST_CONNECTIONS = 16
LONGEST_CONNECTION_S = 5.0
POLL_S = 0.2  # how soon a stop, and a connection that lasts too long, is noticed


@dataclass(frozen=True)
class Page:
    """An answer. status: of HTTP."""

    content: bytes
    media_type: str
    status: int = 200


Pages = Mapping[str, Callable[[], Page]]


class HttpServer:
    """Serves `pages`, a function for each path, until it is closed. OutputError when the port cannot be had."""

    def __init__(self, host: str, port: int, pages: Pages, longest_s: float = LONGEST_CONNECTION_S) -> None:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._listener = _Listener(family, address, pages, longest_s)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a name that no host can have
            why = getattr(exc, "strerror", None) or exc
            raise OutputError(
                f"http: {host}:{port} cannot be listened on ({why}); choose another port or host"
            ) from exc
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(POLL_S,), name="oddkind-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Close the port and every connection; safe to call twice."""
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()
        self._listener.cut_older_than(0.0)


class _Listener(ThreadingMixIn, TCPServer):
    """Knows its open connections and when each began."""

    allow_reuse_address = True  # after a restart the old connections may linger
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: int, address: Any, pages: Pages, longest_s: float) -> None:
        self.address_family, self.pages, self._longest_s = family, pages, longest_s
        self._began_s: dict[socket.socket, float] = {}  # oldest first
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection; the oldest one makes room for it."""
        with self._lock:
            self._began_s[request] = monotonic()
            surplus = list(self._began_s)[:-MOST_CONNECTIONS]
        for each in surplus:
            self._cut(each)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called by `serve_forever` every POLL_S at least: a client that sends a byte now and then ends too."""
        self.cut_older_than(self._longest_s)

    def shutdown_request(self, request: Any) -> None:
        """A connection has come to its end."""
        with self._lock:
            self._began_s.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was cut off, is no news."""

    def cut_older_than(self, age_s: float) -> None:
        """End connections that have lasted longer; their threads then find them closed."""
        with self._lock:
            old = [each for each, began_s in self._began_s.items() if monotonic() - began_s >= age_s]
        for each in old:
            self._cut(each)

    def _cut(self, connection: socket.socket) -> None:
        with self._lock:
            self._began_s.pop(connection, None)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection; what a client sends beyond the head is not read."""

    timeout = LONGEST_CONNECTION_S
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        """The page of this path, or 404; BaseHTTPRequestHandler looks for this name."""
        page = self._page()
        self.send_response(page.status)
        self.send_header("Content-Type", page.media_type)
        self.send_header("Content-Length", str(len(page.content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.content)

    do_HEAD = do_GET

    def _page(self) -> Page:
        assert isinstance(self.server, _Listener)
        make = self.server.pages.get(self.path.partition("?")[0])
        return make() if make else Page(b"404 Not Found\n", "text/plain", 404)

    def version_string(self) -> str:
        """Without Python's version."""
        return "oddkind"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr is for what a person must know."""
