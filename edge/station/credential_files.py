"""Whether secrets and certificates that a station file names can be used: each is read as its output reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.errors import OddkindError
from edge.notify import one_line
from edge.outputs.credentials import secret_in, tls_context
from edge.outputs.http_output import HttpOutput
from edge.station.yaml_file import Document, Where

MQTT: Where = ("outputs", "mqtt")
WEBHOOK: Where = ("outputs", "webhook")
OPCUA: Where = ("outputs", "opcua")
TOKEN: Where = ("outputs", "http", "token_file")
SECRETS: tuple[Where, ...] = ((*MQTT, "password_file"), (*WEBHOOK, "secret_file"), (*OPCUA, "password_file"))
CERTIFICATES: tuple[Where, ...] = (
    *((*MQTT, name) for name in ("ca_file", "cert_file", "key_file")),
    (*WEBHOOK, "ca_file"),
    *((*OPCUA, name) for name in ("cert_file", "key_file")),
)


def check_credentials(document: Document) -> None:
    """Write into the document every file that is missing or of no use."""
    for place in (*SECRETS, TOKEN, *CERTIFICATES):
        path = document.path(place)
        if path and not os.path.isfile(path):  # noqa: PTH113  # Path.is_file raises where one may not look
            document.complain(place, f"no such file: {document.shown(place)}")
    for place in SECRETS:
        _try(document, place, secret_in)
    _try(document, TOKEN, lambda path: HttpOutput(token_file=path).read_token())
    _try(document, (*MQTT, "ca_file"), tls_context)
    _try(document, (*WEBHOOK, "ca_file"), tls_context)
    key = document.path((*MQTT, "key_file"))
    if document.is_sound((*MQTT, "key_file")):
        _try(document, (*MQTT, "cert_file"), lambda path: tls_context(None, path, key))
    if document.get(*OPCUA, "cert_file") is not None and find_spec("asyncua"):
        _check_opcua(document)


def _check_opcua(document: Document) -> None:
    from edge.outputs.opcua_nodes import check_certificate, check_folder, check_key  # takes 80 MB

    clients: Where = (*OPCUA, "clients_folder")
    _try(document, (*OPCUA, "cert_file"), check_certificate)
    _try(document, (*OPCUA, "key_file"), check_key)
    folder = document.path(clients)
    if folder and folder.is_dir():
        _try(document, clients, check_folder)


def _try(document: Document, place: Where, use: Callable[[Path], Any]) -> None:
    """Use the file that stands there, unless something is wrong with it already."""
    path = document.path(place)
    if path is None:
        return
    try:
        use(path)
    except OddkindError as exc:
        document.complain(place, one_line(exc))
