"""The outputs beyond files: results database, MQTT, webhook. Each is optional and none can stop inspecting."""

from __future__ import annotations

from edge.database_sink import DatabaseSettings, DatabaseSink
from edge.errors import UsageError
from edge.mqtt import MqttReceiver, MqttSettings
from edge.notify import Notify
from edge.outbox import Receiver
from edge.webhook import WebhookReceiver, WebhookSettings


def open_outputs(
    database: DatabaseSettings | None, mqtt: MqttSettings | None, webhook: WebhookSettings | None, notify: Notify
) -> DatabaseSink:
    """One sink for all of them.

    UsageError when there is no database, which receivers need to wait in; OutputError when it cannot be used.
    """
    if database is None:
        raise UsageError("mqtt and webhook need a `database`, where records wait until they are delivered")
    receivers: list[Receiver] = []
    if mqtt:
        receivers.append(MqttReceiver(mqtt))
    if webhook:
        receivers.append(WebhookReceiver(webhook))
    return DatabaseSink(database, notify, receivers)
