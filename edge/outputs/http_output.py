"""Metrics and health of a running station over HTTP. It shows, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pydantic

from edge.notify import Notify
from edge.outputs.health import OK, Health
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control

if TYPE_CHECKING:
    from edge.outputs.http_server import Page


class HttpOutput(Output):
    """Where to listen. stale_after_s: a camera whose last record is older is not healthy."""

    host: str = pydantic.Field(default="127.0.0.1", min_length=1, pattern=r"^[^\s/@\[\]]+$")
    port: int = pydantic.Field(default=9109, ge=1, le=65535)
    stale_after_s: float = pydantic.Field(default=10.0, ge=0.1, le=86_400)

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, listening. UsageError without prometheus-client, OutputError when the port cannot be had."""
        return HttpSink(self, cameras)

    def in_words(self) -> str:
        """Address and limit."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"metrics and health at http://{host}:{self.port}, stale after {self.stale_after_s:g} s"


class HttpSink(Sink):
    """Notes every record; a thread of the server answers who asks, from what was noted."""

    def __init__(self, settings: HttpOutput, cameras: Sequence[str]) -> None:
        from edge.outputs.http_server import (  # few stations listen, and they bring http.server with them
            HttpServer,
            Page,
        )
        from edge.outputs.metrics import Metrics

        self._health = Health(cameras, settings.stale_after_s)
        self._metrics = Metrics(cameras, self._health.ages_s)
        pages = {"/metrics": lambda: Page(*self._metrics.text()), "/health": self._health_page}
        self._server = HttpServer(settings.host, settings.port, pages)

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Some hundredths of a millisecond; no client is waited for."""
        self._health.note(inspection)
        self._metrics.note(inspection)

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _health_page(self) -> Page:
        from edge.outputs.http_server import Page

        report = self._health.report()
        content = json.dumps(report, ensure_ascii=False).encode() + b"\n"
        return Page(content, "application/json", 200 if report["state"] == OK else 503)
