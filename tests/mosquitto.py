"""A real mosquitto on loopback that a test can stop, freeze and start again, and a real subscriber to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType

import pytest
from edge_processes import wait_for
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# Debian puts it where only root looks.
BINARY = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
# What a stopped broker keeps for absent subscribers, all of it: by default it drops what goes over 1000 messages.
KEEPS_ALL = ("persistence true", "max_queued_messages 0", "log_type all")


class Mosquitto:
    """A broker in `folder`; the port and what it persists stay the same when it starts again."""

    def __init__(self, folder: Path, *options: str) -> None:
        if BINARY is None:
            pytest.skip("mosquitto is not installed: apt install mosquitto")
        self.port, self._folder = free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} 127.0.0.1", f"persistence_location {folder}/", "user root", *KEEPS_ALL]
        given = {option.split()[0] for option in options}
        lines += [] if "allow_anonymous" in given else ["allow_anonymous true"]
        (folder / "mosquitto.conf").write_text("\n".join([*lines, *options]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen."""
        with (self._folder / "log").open("ab") as log:
            command = [str(BINARY), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._listens, timeout_s=10)

    def stop(self) -> None:
        """Close the port; what it persists is written first."""
        if self._process:
            self.thaw()
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def received(self, topic: str) -> int:
        """Messages to a topic that reached the broker; a reader gets some again from a broker that was stopped."""
        lines = (self._folder / "log").read_text("utf-8", "replace").splitlines()
        return sum("Received PUBLISH" in line and f"'{topic}'" in line for line in lines)

    def freeze(self) -> None:
        """Connections stay open and nothing comes."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Subscriber:
    """Keeps every message of `prefix/#`, over restarts of the broker, which remembers what it has not had yet."""

    def __init__(self, broker: Mosquitto, prefix: str = "oddkind") -> None:
        self.messages: list[MQTTMessage] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, f"reader of {prefix}", protocol=MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{prefix}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, userdata, message: self.messages.append(message)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=session)

    def publish(
        self,
        topic: str,
        payload: str,
        correlation: bytes | None = None,
        retain: bool = False,
        response_topic: str | None = None,
    ) -> None:
        """Say something ourselves, QoS 1."""
        properties = Properties(PacketTypes.PUBLISH)
        if correlation is not None:
            properties.CorrelationData = correlation
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).wait_for_publish(10)

    def on(self, topic_end: str) -> list[MQTTMessage]:
        """Messages of topics that end so."""
        return [m for m in list(self.messages) if m.topic.endswith(topic_end)]

    def __enter__(self) -> Subscriber:
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
