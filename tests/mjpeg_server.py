"""A real HTTP MJPEG camera on loopback that a test can freeze, stop and start again."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import cv2
import numpy as np

BOUNDARY = b"frame"
USER = "inspector"


def plain_frame(number: int) -> np.ndarray:
    """(48, 64, 3) uint8, one grey that says which frame it is: 10 * number, modulo 250."""
    return np.full((48, 64, 3), 10 * number % 250, dtype=np.uint8)


class MjpegServer:
    """Serves `render(number)` at `fps` to every client, from number 0 at each start; the port stays the same."""

    def __init__(
        self, render: Callable[[int], np.ndarray] = plain_frame, fps: float = 25.0, password: str = ""
    ) -> None:
        self.render, self.period_s, self.password = render, 1 / fps, password
        self.port = 0
        self.clients = 0
        self._thawed = threading.Event()
        self._thawed.set()
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Address of the stream, with the password in it when there is one."""
        login = f"{USER}:{self.password}@" if self.password else ""
        return f"http://{login}127.0.0.1:{self.port}/video.mjpg"

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header may see the stream."""
        login = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        return not self.password or authorization == f"Basic {login}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._stopping.clear()
        self._server = _Listener(("127.0.0.1", self.port), _handler_for(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and every open stream: the camera's plug is pulled."""
        self._stopping.set()
        self._thawed.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def freeze(self) -> None:
        """Keep connections open and send nothing: the camera hangs."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Send again."""
        self._thawed.set()

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stream_to(self, write: Callable[[bytes], Any]) -> None:
        """Frames to one client until the server stops or the client leaves."""
        number = 0
        while not self._stopping.is_set():
            self._thawed.wait()
            jpeg = cv2.imencode(".jpg", self.render(number))[1].tobytes()
            head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(jpeg))
            write(head + jpeg + b"\r\n")
            number += 1
            self._stopping.wait(self.period_s)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True


def _handler_for(camera: MjpegServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            camera._thawed.wait()
            if not camera.admits(self.headers.get("Authorization")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")
            self.end_headers()
            camera.clients += 1
            try:
                camera.stream_to(self.wfile.write)
            except OSError:  # the client left
                return
            finally:
                camera.clients -= 1

        def log_message(self, format: str, *args: object) -> None:
            """Tests stay quiet."""

    return Handler
