"""One connection to an MQTT 5 broker. The only file that uses paho.

paho's thread reads, ours publishes and waits for acknowledgements. A connection that fails is not mended but replaced,
so that nothing of it is sent out of order.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError
from edge.outputs.outbox import Unreachable

if TYPE_CHECKING:
    from ssl import SSLContext

    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

WINDOW = 20  # messages sent and not acknowledged
ENVELOPE_BYTES = 200  # more than header and properties of a message take
GOOD_BYE_S = 1.0
# No later attempt would end otherwise; what may, such as `not authorized`, is tried again.
POISON = {0x90: "topic name invalid", 0x95: "packet too large", 0x99: "payload format invalid"}
# Reasons for the end of a connection that lie in what was sent: malformed, protocol error, and the two above.
BLAME = {0x81, 0x82, 0x95, 0x99}


@dataclass(frozen=True)
class Broker:
    """Where and as whom to connect, and what the broker publishes (retained) when we die."""

    host: str
    port: int
    client_id: str
    will_topic: str
    will: bytes
    command_topic: str
    keepalive_s: int
    timeout_s: float
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: SSLContext | None = None


class MqttConnection:
    """Open from the start; Unreachable when the broker is not there, or does not want us. One thread uses it.

    max_bytes: of a message. blames_message: the broker ended the connection over what was sent. obey: answers what
    comes to the command topic, on paho's thread; without it nothing is subscribed to.
    """

    def __init__(self, broker: Broker, obey: Callable[[bytes], bytes] | None = None) -> None:
        self.max_bytes = 2**28
        self.blames_message = False
        self._window, self._in_flight = WINDOW, 0
        self._timeout_s = broker.timeout_s
        self._changed = threading.Condition()
        self._is_open, self._failure = False, ""
        self._acknowledged: dict[int, ReasonCode] = {}
        self._client = _client(broker)
        self._client.on_connect, self._client.on_disconnect = self._on_connect, self._on_disconnect
        self._client.on_publish = self._on_publish
        self._replies: set[int] = set()
        self._command_topic, self._obey = broker.command_topic, obey
        if obey:
            self._client.on_message = self._on_command
        try:
            self._open(broker)
        except BaseException:
            self.drop()
            raise

    @property
    def is_alive(self) -> bool:
        """Connected as far as anybody knows."""
        return self._is_open and not self._failure

    def publish(
        self, topic: str, payload: bytes, result_id: str = "", content_type: str = "", retain: bool = False
    ) -> int:
        """Send with QoS 1, as soon as the broker has room; the number of the message."""
        self._wait(lambda: self._in_flight < self._window, self._timeout_s, "the broker acknowledges nothing")
        with self._changed:
            self._in_flight += 1
        properties = _properties(result_id, content_type) if result_id else None
        return int(self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid)

    def settle(self, message: int, timeout_s: float | None = None) -> str | None:
        """Wait for the acknowledgement: None, or why the broker will never take the message."""
        patience_s = timeout_s or self._timeout_s
        self._wait(lambda: message in self._acknowledged, patience_s, "the broker acknowledges nothing")
        reason = self._acknowledged.pop(message)
        if reason.value in POISON:
            return POISON[reason.value]
        if reason.is_failure:
            raise Unreachable(f"the broker answers: {reason}")
        return None

    def disconnect(self) -> None:
        """Part as friends, so that the broker does not publish our last will."""
        self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: bool(self._failure), GOOD_BYE_S)
        self.drop()

    def drop(self) -> None:
        """End paho's thread, whatever state the connection is in; safe to call twice."""
        self._failure = self._failure or "dropped"
        open_socket: Any = self._client.socket()
        with suppress(OSError):
            if open_socket:
                open_socket.shutdown(2)
        self._client.loop_stop()

    def _open(self, broker: Broker) -> None:
        try:
            self._client.connect(broker.host, broker.port, broker.keepalive_s)
        except (OSError, ValueError) as exc:  # ValueError: a host name that cannot be one
            raise Unreachable(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__) from exc
        self._client.loop_start()
        self._wait(lambda: self._is_open, self._timeout_s, "the broker does not answer")

    def _wait(self, what: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: what() or bool(self._failure), timeout_s)
            if not what():
                raise Unreachable(self._failure or f"{otherwise} for {timeout_s:g} s")

    def _on_connect(self, client: Client, userdata: object, flags: object, reason: ReasonCode, given: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._failure = f"the broker refuses: {reason}"
            else:
                self._window = min(WINDOW, getattr(given, "ReceiveMaximum", WINDOW))
                self.max_bytes = getattr(given, "MaximumPacketSize", self.max_bytes)
                self._is_open = True
            self._changed.notify_all()
        if self._obey and not reason.is_failure:
            self._client.subscribe(self._command_topic, qos=1)  # after every reconnect too

    def _on_disconnect(self, client: Client, userdata: object, flags: object, reason: ReasonCode, given: Any) -> None:
        with self._changed:
            self.blames_message = self.blames_message or reason.value in BLAME
            self._failure = self._failure or f"connection lost ({reason})"
            self._changed.notify_all()

    def _on_command(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        """A retained command was meant for another time; nobody knows for which part."""
        if message.retain or self._obey is None:
            return
        asked = message.properties
        own = f"{self._command_topic}/answer"
        topic = getattr(asked, "ResponseTopic", None) or own
        if topic != own and (refusal := _refusal(topic, self._command_topic.removesuffix("command"))):
            topic, payload = own, json.dumps({"error": refusal}).encode()
        else:
            payload = self._obey(bytes(message.payload))
        answer = client.publish(topic, payload, qos=0, properties=_answer_properties(asked))
        self._replies.add(answer.mid)

    def _on_publish(self, client: Client, userdata: object, message: int, reason: ReasonCode, given: Any) -> None:
        if message in self._replies:
            self._replies.discard(message)
            return
        with self._changed:
            self._in_flight -= 1
            self._acknowledged[message] = reason
            self._changed.notify_all()


def check_installed() -> None:
    """UsageError without paho."""
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError as exc:
        raise UsageError("MQTT needs paho, which is not installed; pip install 'oddkind[station]'") from exc


def _client(broker: Broker) -> Client:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    protocol = MQTTProtocolVersion.MQTTv5
    client = Client(CallbackAPIVersion.VERSION2, broker.client_id, protocol=protocol, reconnect_on_failure=False)
    client.connect_timeout = broker.timeout_s
    client.will_set(broker.will_topic, broker.will, qos=1, retain=True)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    if broker.tls:
        client.tls_set_context(broker.tls)
    return client


def _properties(result_id: str, content_type: str) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    properties.UserProperty = [("result_id", result_id)]
    return properties


def _refusal(topic: str, prefix: str) -> str | None:
    """Why no answer goes to this topic: who may command us must not speak for us."""
    if topic.startswith(prefix):
        return f"not done: answers do not go to topics of the station, {prefix}..., except {prefix}command/answer"
    return "not done: answers do not go to a topic with wildcards" if set(topic) & set("#+\0") else None


def _answer_properties(asked: Properties | None) -> Properties:
    """What was sent along to know the answer by."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    if (correlation := getattr(asked, "CorrelationData", None)) is not None:
        properties.CorrelationData = correlation
    return properties
