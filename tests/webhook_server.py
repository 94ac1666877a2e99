"""A real HTTP server on loopback that takes records, and can be told to refuse, to hang, to drip or to go away."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from types import TracebackType


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return self.headers.get("Idempotency-Key", "")


class WebhookServer:
    """Answers `status` with `headers`, or what `answers` holds for the next requests; the port stays the same.

    Also an answer: "hang" (none, until thawed), "drip" (a byte now and then), "close" (the connection, in mid-request).
    """

    def __init__(self) -> None:
        self.status: int | str = 204
        self.headers: dict[str, str] = {}
        self.answers: list[int | str] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[str]:
        """Idempotency keys of requests that were answered 2xx, in order."""
        return [r.key for r in list(self.requests) if 200 <= r.status < 300]

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._stopping.clear()
        self._server = _Listener(("127.0.0.1", self.port), _handler_for(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port; connections end with the request they are in."""
        self._stopping.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> WebhookServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self) -> int | str:
        """For the next request."""
        with self._one_at_a_time:
            return self.answers.pop(0) if self.answers else self.status


class _Listener(ThreadingHTTPServer):
    daemon_threads = True


def _handler_for(server: WebhookServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = server.answer()
            status = answer if isinstance(answer, int) else 0
            server.requests.append(Request(self.path, dict(self.headers), body, status))
            if answer == "hang":
                server._stopping.wait(30)
            elif answer == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(100):
                    self.wfile.write(b"z")
                    self.wfile.flush()
                    sleep(0.1)
            self.close_connection = not status or server._stopping.is_set()
            if status:
                self.respond(status)

        def respond(self, status: int) -> None:
            content = b"" if status == 204 else b"because\n  of this" if status >= 300 else b"{}"
            self.send_response(status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client has gone
                return

        def log_message(self, format: str, *args: object) -> None:
            """Tests stay quiet."""

    return Handler
