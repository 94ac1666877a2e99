"""Results and states to OPC UA clients, and their wishes to the station."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Self

import pydantic

from edge.notify import Notify
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control, Status
from edge.station.parts import StationPath

PORT = 4840


class OpcuaOutput(Output):
    """Where to listen, and whom to let in. password or password_file: with username.

    cert_file and key_file: our own; with them every channel is signed and encrypted (Basic256Sha256). clients_folder:
    certificates of clients that need no password. stall_after_s: without a round of the loop the state is Error.
    """

    host: str = pydantic.Field(default="127.0.0.1", min_length=1, pattern=r"^[^\s/@\[\]]+$")
    port: int = pydantic.Field(default=PORT, ge=1, le=65535)
    username: str | None = pydantic.Field(default=None, min_length=1)
    password: pydantic.SecretStr | None = None
    password_file: StationPath | None = None
    cert_file: StationPath | None = None
    key_file: StationPath | None = None
    clients_folder: StationPath | None = None
    stall_after_s: float = pydantic.Field(default=2.0, ge=0.5, le=3600)

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.password is not None and self.password_file:
            raise ValueError("give `password` or `password_file`, not both")
        if (self.username is None) != (self.password is None and self.password_file is None):
            raise ValueError("`username` and a password go together")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("`cert_file` and `key_file` go together")
        if self.clients_folder and not self.cert_file:
            raise ValueError("`clients_folder` needs `cert_file` and `key_file`")
        if not self.is_loopback and not (self.cert_file and (self.username or self.clients_folder)):
            raise ValueError(
                f"{self.host} can be reached from elsewhere: give `cert_file` and `key_file`, "
                "and `username` with a password or `clients_folder`; or stay on 127.0.0.1"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def endpoint(self) -> str:
        """`opc.tcp://host:port/oddkind`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"opc.tcp://{host}:{self.port}/oddkind"

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, listening. UsageError without asyncua or for files that cannot be used, OutputError for a port."""
        return OpcuaSink(self, cameras, notify, control)

    def in_words(self) -> str:
        """Endpoint and who may connect."""
        who = [f"user {self.username}"] * bool(self.username) + ["known certificates"] * bool(self.clients_folder)
        how = "encrypted" if self.cert_file else "not encrypted"
        return f"OPC UA at {self.endpoint}, {how}, for {' and '.join(who) or 'every program on this machine'}"


class OpcuaSink(Sink):
    """Hands records over to the thread of the server."""

    def __init__(self, settings: OpcuaOutput, cameras: Sequence[str], notify: Notify, control: Control) -> None:
        from edge.outputs.opcua_server import OpcuaServer  # few stations speak OPC UA, which takes 80 MB

        self._server = OpcuaServer(settings, cameras, notify, control)

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """A hundredth of a millisecond; no client is waited for."""
        self._server.put(inspection)

    def came_round(self, status: Status) -> None:
        """The values are true for another while."""
        self._server.came_round()

    def close(self) -> None:
        """Send what waits and stop listening."""
        self._server.close()
