"""The live page, metrics and health of a running station over HTTP: one server for people and machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pydantic

from edge.errors import UsageError
from edge.notify import Notify, say
from edge.outputs.credentials import secret_in
from edge.outputs.health import Health
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.page.admission import is_loopback
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control, Status
from edge.station.parts import StationPath

SHORTEST_TOKEN = 16
UNFIT_TOKEN = "expected a token of letters, digits and signs of ASCII, without blanks: HTTP carries no other"


class HttpOutput(Output):
    """Where to listen, and to whom. token or token_file: needed beyond loopback.

    page: whether people are served too, or machines alone. stale_after_s: a camera whose last record is older is not
    healthy. rejects, rejects_mb: how many are kept in memory, and in how many megabytes (10^6 bytes) of pictures.
    live_fps: pictures that are encoded of each camera, at most, and none while nobody watches.
    """

    host: str = pydantic.Field(default="127.0.0.1", min_length=1, pattern=r"^[^\s/@\[\]]+$")
    port: int = pydantic.Field(default=8080, ge=1, le=65535)
    token: pydantic.SecretStr | None = pydantic.Field(default=None, min_length=SHORTEST_TOKEN, max_length=1000)
    token_file: StationPath | None = None
    page: bool = True
    stale_after_s: float = pydantic.Field(default=10.0, ge=0.1, le=86_400)
    rejects: int = pydantic.Field(default=40, ge=1, le=1000)
    rejects_mb: float = pydantic.Field(default=200.0, ge=1, le=100_000)
    live_fps: float = pydantic.Field(default=10.0, ge=0.1, le=60)

    @pydantic.field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        if token is not None and not _is_fit(token.get_secret_value()):
            raise ValueError(UNFIT_TOKEN)
        return token

    @pydantic.model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.token is not None and self.token_file:
            raise ValueError("give `token` or `token_file`, not both")
        if self.token is None and not self.token_file and not is_loopback(self.host):
            raise ValueError(f"host {self.host} can be reached from other machines: give a `token_file`, or a `token`")
        return self

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, listening.

        UsageError without starlette, uvicorn or prometheus-client, or when the token cannot be read; OutputError when
        the port cannot be had.
        """
        return HttpSink(self, cameras, control, notify)

    def in_words(self) -> str:
        """Address, door and limit."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        what = "live page, metrics and health" if self.page else "metrics, health and control"
        door = "" if self.token is None and not self.token_file else ", with a token"
        return f"{what} at http://{host}:{self.port}{door}, stale after {self.stale_after_s:g} s"

    def read_token(self) -> str | None:
        """The token, None where none is needed; UsageError when its file gives none that is long enough."""
        if self.token is not None:
            return self.token.get_secret_value()
        if not self.token_file:
            return None
        token = secret_in(self.token_file).strip()
        if len(token) < SHORTEST_TOKEN:
            raise UsageError(f"{self.token_file}: expected a token of {SHORTEST_TOKEN} characters at least")
        if not _is_fit(token):
            raise UsageError(f"{self.token_file}: {UNFIT_TOKEN}")
        return token


def _is_fit(token: str) -> bool:
    return all("!" <= c <= "~" for c in token)


class HttpSink(Sink):
    """Notes every record; threads of the server answer who asks, from what was noted."""

    def __init__(self, settings: HttpOutput, cameras: Sequence[str], control: Control, notify: Notify = say) -> None:
        # Few stations listen, and these bring starlette and uvicorn with them.
        try:
            from edge.page.app import PageApp
            from edge.page.server import PageServer
        except ImportError as exc:
            raise UsageError(
                f"http needs {(exc.name or 'starlette').partition('.')[0]}, which is not installed; "
                "pip install 'oddkind[station]'"
            ) from exc
        from edge.outputs.metrics import Metrics
        from edge.page.admission import Admission
        from edge.page.enrolment import Enrolment
        from edge.page.line import Line
        from edge.page.rejects import Rejects
        from edge.page.rooms import Rooms

        s, setting = settings, control.setting
        self._health = Health(cameras, s.stale_after_s)
        self._metrics = Metrics(cameras, self._health.ages_s)
        self._line = Line(cameras, Rejects(s.rejects, round(s.rejects_mb * 1e6)), s.live_fps)
        self._keeps_pictures = s.page
        self._enrolment = Enrolment(setting) if setting and s.page else None
        admission = Admission(s.read_token(), s.port)
        rooms = Rooms(
            self._line, self._health, self._metrics, control, admission, self._enrolment, s.page, s.stale_after_s
        )
        self._app = PageApp(rooms, notify)
        try:
            self._server = PageServer(s.host, s.port, self._app.asgi)
        except BaseException:
            self._let_go()
            raise

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Some hundredths of a millisecond; no client is waited for, and nothing is encoded."""
        self._health.note(inspection)
        self._metrics.note(inspection)
        self._line.write(inspection, frame_bgr if self._keeps_pictures else None, heat_map)

    def see(self, camera: str, frame_bgr: FrameBgr) -> None:
        """Shown while the station is paused."""
        if self._keeps_pictures:
            self._line.see(camera, frame_bgr)

    def came_round(self, status: Status) -> None:
        """The loop lives, and this is how the station is."""
        self._line.came_round(status)
        self._metrics.came_round(status)

    def close(self) -> None:
        """Stop listening."""
        self._let_go()
        self._server.close()

    def _let_go(self) -> None:
        self._app.close()
        if self._enrolment:
            self._enrolment.close()
