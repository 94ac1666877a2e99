"""Records to an MQTT 5 broker, and whether this station lives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

import pydantic

from edge.errors import ControlError
from edge.outputs.credentials import secret_in, tls_context
from edge.outputs.database import Letter
from edge.outputs.mqtt_connection import ENVELOPE_BYTES, GOOD_BYE_S, Broker, MqttConnection, check_installed
from edge.outputs.outbox import Receiver, ReceiverOutput, Unreachable
from edge.outputs.thumbnail import jpeg_thumbnail
from edge.pictures import FrameBgr
from edge.result import Inspection, utc_now
from edge.station.command import Command, obey
from edge.station.control import Control, Status
from edge.station.parts import StationPath

PORT, TLS_PORT = 1883, 8883


class MqttSettings(ReceiverOutput):
    """Where and as whom to publish. port: 1883, or 8883 with TLS. password or password_file: with username.

    topic_prefix: its own for every station. client_id: from the prefix, so that it is the same after a restart.
    ca_file: PEM of who signed the broker's certificate, when that is nobody the system knows; cert_file and key_file:
    our own. thumbnails: of rejects, as JPEG. commands: whoever may publish to PREFIX/command may arm, pause, trigger.
    """

    host: str = pydantic.Field(min_length=1, pattern=r"^[^\s/@]+$")
    port: int | None = pydantic.Field(default=None, ge=1, le=65535)
    topic_prefix: str = pydantic.Field(default="oddkind", max_length=200)
    client_id: str | None = pydantic.Field(default=None, min_length=1, max_length=200)
    username: str | None = None
    password: pydantic.SecretStr | None = None
    password_file: StationPath | None = None
    tls: bool = False
    ca_file: StationPath | None = None
    cert_file: StationPath | None = None
    key_file: StationPath | None = None
    keepalive_s: int = pydantic.Field(default=15, ge=1, le=3600)
    timeout_s: float = pydantic.Field(default=10.0, ge=0.1, le=120)
    thumbnails: bool = False
    thumbnail_side_px: int = pydantic.Field(default=320, ge=16, le=2000)
    thumbnail_max_bytes: int = pydantic.Field(default=20_000, ge=1000, le=1_000_000)
    commands: bool = False

    @pydantic.field_validator("topic_prefix")
    @classmethod
    def _check_topic(cls, prefix: str) -> str:
        if not all(prefix.split("/")) or prefix.startswith("$") or set(prefix) & set("#+\0"):
            raise ValueError("expected a topic such as `plant/line-3`: no wildcards, no empty level, no $ in front")
        return prefix

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.password is not None and self.password_file:
            raise ValueError("give `password` or `password_file`, not both")
        if (self.password is not None or self.password_file) and self.username is None:
            raise ValueError("a password needs a `username`")
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("`ca_file`, `cert_file` and `key_file` need `tls: true`")
        if self.key_file and not self.cert_file:
            raise ValueError("`key_file` needs `cert_file`")
        return self

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port or (TLS_PORT if self.tls else PORT)}"

    def open(self, control: Control) -> Receiver:
        """The receiver of these settings."""
        return MqttReceiver(self, control)

    def in_words(self) -> str:
        """Broker and topic."""
        how = " with TLS" if self.tls else ""
        more = ", thumbnails too" * self.thumbnails + ", takes commands" * self.commands
        return f"MQTT to {self.address}{how}, {self.topic_prefix}/record{more}"


class MqttReceiver(Receiver):
    """Publishes with QoS 1 and settles a record when the broker has acknowledged it.

    `PREFIX/status` is retained: online, offline (we stopped), lost (the broker's word, when we died); with the state of
    the station while we live. control: takes what comes to `PREFIX/command`, when that is asked for.
    UsageError when paho is not installed or a file that the settings name cannot be used.
    """

    name = "mqtt"
    at_once = 20

    def __init__(self, settings: MqttSettings, control: Control | None = None) -> None:
        check_installed()
        self._settings, self._control = settings, control or Control()
        self._told: Status | None = None
        self._broker = _broker(settings)
        self.address = settings.address
        self._connection: MqttConnection | None = None
        self._is_careful = False

    def open(self) -> None:
        """Connect unless connected, and publish that we are here, and how, when that has changed."""
        if not (self._connection and self._connection.is_alive):
            self._drop()
            self._connection = MqttConnection(self._broker, self._obey if self._settings.commands else None)
        elif self._told == self._control.status:
            return
        self._told = self._control.status
        try:
            self._publish_status(self._connection, "online", station=self._told)
        except Unreachable:
            self._drop()
            raise

    def deliver(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, str | None]]:
        """Publish all, then settle in order.

        After a connection was lost one letter goes alone: what the broker says of it is then not cut off by the end
        of the connection, and if that end comes of what was sent, this letter is to blame. (mosquitto 2.0 hangs up on
        a message that is too large, and says so with a code that MQTT 5 does not have there.)
        """
        connection = self._connection
        assert connection, "open() comes first"
        letters = letters[:1] if self._is_careful else letters
        try:
            yield from self._deliver(connection, letters)
            self._is_careful = False
        except Unreachable as exc:
            self._drop()  # what it still holds is sent again, in its turn
            is_to_blame = self._is_careful and connection.blames_message
            self._is_careful = not is_to_blame
            if not is_to_blame:
                raise
            yield letters[0], f"the broker ended the connection over it: {exc}"

    def _deliver(self, connection: MqttConnection, letters: Sequence[Letter]) -> Iterator[tuple[Letter, str | None]]:
        sent = [(letter, self._publish(connection, letter)) for letter in letters]
        for letter, messages in sent:
            yield letter, messages if isinstance(messages, str) else _settled(connection, messages)

    def thumbnail(self, inspection: Inspection, frame_bgr: FrameBgr) -> bytes | None:
        """Of a reject, when asked for."""
        s = self._settings
        if not s.thumbnails or inspection.verdict != "defect":
            return None
        return jpeg_thumbnail(frame_bgr, s.thumbnail_side_px, s.thumbnail_max_bytes)

    def close(self) -> None:
        """Publish that we stop, and disconnect."""
        if self._connection and self._connection.is_alive:
            with suppress(Unreachable):
                self._publish_status(self._connection, "offline", GOOD_BYE_S)
            self._connection.disconnect()
        self._drop()

    def _publish(self, connection: MqttConnection, letter: Letter) -> list[int] | str:
        """Numbers of the messages, or why the broker would not take the record."""
        record, id_ = letter.record.encode(), letter.result_id
        if len(record) + ENVELOPE_BYTES > connection.max_bytes:
            return f"{len(record)} bytes, the broker takes {connection.max_bytes}"
        messages = [connection.publish(self._topic("record"), record, id_, "application/json")]
        if letter.thumbnail and len(letter.thumbnail) + ENVELOPE_BYTES <= connection.max_bytes:
            messages.append(connection.publish(self._topic(f"thumbnail/{id_}"), letter.thumbnail, id_, "image/jpeg"))
        return messages

    def _publish_status(
        self, connection: MqttConnection, state: str, timeout_s: float | None = None, station: Status | None = None
    ) -> None:
        payload = _status(state, station)
        connection.settle(connection.publish(self._topic("status"), payload, retain=True), timeout_s)

    def _obey(self, payload: bytes) -> bytes:
        """A command and its answer, on paho's thread: nothing here waits."""
        try:
            answer = obey(self._control, Command.of_json(payload), "mqtt")
        except ControlError as exc:
            answer = {"error": str(exc)}
        return json.dumps(answer, ensure_ascii=False).encode()

    def _topic(self, name: str) -> str:
        return f"{self._settings.topic_prefix}/{name}"

    def _drop(self) -> None:
        if self._connection:
            self._connection.drop()
        self._connection = None


def _settled(connection: MqttConnection, messages: Sequence[int]) -> str | None:
    """What became of a record, once its messages are acknowledged; a refused thumbnail costs no record."""
    refusal, *_ = [connection.settle(message) for message in messages]
    return refusal


def _broker(settings: MqttSettings) -> Broker:
    s = settings
    # The same after a power cut: the broker then ends the old connection, and its last will comes before our birth.
    own_id = "oddkind" + hashlib.sha256(s.topic_prefix.encode()).hexdigest()[:12]  # any broker takes 23 characters
    return Broker(
        host=s.host,
        port=s.port or (TLS_PORT if s.tls else PORT),
        client_id=s.client_id or own_id,
        will_topic=f"{s.topic_prefix}/status",
        command_topic=f"{s.topic_prefix}/command",
        will=_status("lost"),
        keepalive_s=s.keepalive_s,
        timeout_s=s.timeout_s,
        username=s.username,
        password=_password(s),
        tls=tls_context(s.ca_file, s.cert_file, s.key_file) if s.tls else None,
    )


def _password(settings: MqttSettings) -> str | None:
    if settings.password is not None:
        return settings.password.get_secret_value()
    return secret_in(settings.password_file) if settings.password_file else None


def _status(state: str, station: Status | None = None) -> bytes:
    """Payload of the status topic; the last will is written before its time and the station's state are known."""
    facts: dict[str, Any] = {"state": state} if state == "lost" else {"state": state, "at": utc_now()}
    if station:
        facts |= {"station": station.state, "reason": station.reason}
    return json.dumps(facts, ensure_ascii=False).encode()
