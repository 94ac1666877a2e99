"""The webhook against a real HTTP server: failing, hanging, dripping, refusing, coming back."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import jsonschema
import pydantic
import pytest
from edge_processes import wait_for
from mosquitto import free_port
from output_records import in_state, query, stored, write
from tls_files import make_certificate
from webhook_server import WebhookServer

from edge.errors import UsageError
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from edge.outputs.webhook import WebhookReceiver, WebhookSettings
from edge.result import record_schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cameras.live.FIRST_BACK_OFF_S", 0.1)


def station(
    path: Path, server: WebhookServer | str, notify: Callable[[str], None] = pytest.fail, **settings: Any
) -> DatabaseSink:
    url = server if isinstance(server, str) else server.url
    webhook = WebhookSettings.model_validate({"url": url, "timeout_s": 1.0, **settings})
    return DatabaseSink(DatabaseSettings(file=path), notify, [WebhookReceiver(webhook)])


# --- what is sent


def test_records_are_posted_in_order_over_one_connection(path: Path, server: WebhookServer) -> None:
    with station(path, server.url + "/a?line=3") as sink:
        ids = write(sink, 60) + write(sink, 1, 60, "defect") + write(sink, 1, 61, "no_verdict")
        wait_for(lambda: len(server.taken) == 62, timeout_s=30)
    assert server.taken == ids
    assert server.connections == 1
    assert in_state(path, "delivered", "webhook") == ids
    assert [r.body.decode() for r in server.requests] == query(path, "SELECT record FROM results")
    for request in server.requests:
        record = json.loads(request.body)
        jsonschema.validate(record, record_schema())
        assert record["result_id"] == request.key
        assert request.path == "/hook/a?line=3"
        assert request.headers["Content-Type"] == "application/json"
        assert "X-Oddkind-Signature" not in request.headers


def documented_check() -> Callable[..., bool]:
    """The five lines that docs/outputs.md tells a receiver to use."""
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    check: Callable[..., bool] = names["is_genuine"]
    return check


def test_the_signature_is_what_the_documentation_says(path: Path, server: WebhookServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3crét\n")
    with station(path, server, secret_file=tmp_path / "secret") as sink:
        write(sink, 3)
        wait_for(lambda: len(server.taken) == 3, timeout_s=30)
    is_genuine, secret = documented_check(), "s3crét".encode()
    for request in server.requests:
        timestamp = request.headers["X-Oddkind-Timestamp"]
        assert abs(int(timestamp) - time()) < 30
        digest = hmac.new(secret, f"{timestamp}.".encode() + request.body, hashlib.sha256).hexdigest()
        assert request.headers["X-Oddkind-Signature"] == f"sha256={digest}"
        assert is_genuine(secret, request.headers, request.body)
        assert not is_genuine(secret, request.headers, request.body + b" ")
        assert not is_genuine(b"other", request.headers, request.body)
        late = {**request.headers, "X-Oddkind-Timestamp": str(int(timestamp) - 3600)}
        assert not is_genuine(secret, late, request.body)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_settles_a_record(status: int, path: Path, server: WebhookServer) -> None:
    server.status = status
    with station(path, server) as sink:
        ids = write(sink, 3)
        wait_for(lambda: in_state(path, "delivered", "webhook") == ids, timeout_s=30)
    assert len(server.requests) == 3


# --- outages


@pytest.mark.parametrize("answer", [500, 503, 408, 425, 429, 302, "hang", "drip", "close"])
def test_what_may_pass_is_tried_again_and_order_is_kept(answer: int | str, path: Path, server: WebhookServer) -> None:
    notices: list[str] = []
    server.answers = [204, 204, answer, answer]
    with station(path, server, notices.append, timeout_s=0.5) as sink:
        ids = write(sink, 10)
        wait_for(lambda: len(server.taken) == 10, timeout_s=20)
    assert server.taken == ids
    failed = [request.key for request in server.requests if not 200 <= request.status < 300]
    assert failed == [ids[2]] * 2
    assert query(path, "SELECT count(*) FROM outbox WHERE state <> 'delivered'") == [0]


def test_a_server_that_goes_and_comes_back_gets_everything_in_order(path: Path, server: WebhookServer) -> None:
    notices: list[str] = []
    ids: list[str] = []
    with station(path, server, notices.append) as sink:
        for number in range(60):
            if number == 20:
                server.stop()
            if number == 40:
                wait_for(lambda: notices, timeout_s=30)
                server.start()
            ids += write(sink, 1, number)
            sleep(0.01)
        wait_for(lambda: len(server.taken) >= 60 and server.taken[-1] == ids[-1], timeout_s=20)
        wait_for(lambda: len(notices) == 2, timeout_s=20)
    assert list(dict.fromkeys(server.taken)) == ids
    assert "Connection refused; records wait in" in notices[0]
    assert "takes records again" in notices[1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(500, "answers 500"), (302, "redirects are not followed"), ("hang", "no answer within 0.3 s"),
     ("drip", "no answer within 0.3 s"), ("close", "closed connection without response")],
)  # fmt: skip
def test_an_outage_is_told_once_with_its_reason(
    answer: int | str, reason: str, path: Path, server: WebhookServer
) -> None:
    notices: list[str] = []
    server.status = answer
    with station(path, server, notices.append, timeout_s=0.3) as sink:
        ids = write(sink, 2)
        wait_for(lambda: len(server.requests) >= 3, timeout_s=30)
        assert stored(path) == ids
    assert len(notices) == 1
    assert reason in notices[0]


def test_a_redirect_is_not_followed(path: Path, server: WebhookServer) -> None:
    with WebhookServer() as elsewhere:
        server.status, server.headers = 307, {"Location": elsewhere.url}
        with station(path, server, notify=lambda text: None) as sink:
            write(sink, 1)
            wait_for(lambda: len(server.requests) >= 2, timeout_s=30)
        assert elsewhere.requests == []
    assert len(in_state(path, "waiting", "webhook")) == 1


def test_a_server_that_asks_for_time_gets_it(path: Path, server: WebhookServer) -> None:
    server.answers, server.headers = [503], {"Retry-After": "2"}
    with station(path, server) as sink:
        started_s = monotonic()
        write(sink, 1)
        wait_for(lambda: server.taken, timeout_s=30)
    assert monotonic() - started_s > 2


def test_a_kept_connection_that_the_server_closed_costs_no_pause(path: Path, server: WebhookServer) -> None:
    with station(path, server) as sink:
        write(sink, 1)
        wait_for(lambda: server.taken, timeout_s=30)
        server.stop()
        server.start()
        server.answers = ["close"]  # as a server does whose patience with an idle connection ends just now
        write(sink, 1, 1)
        wait_for(lambda: len(server.taken) == 2, timeout_s=30)


def test_the_end_of_a_run_does_not_wait_for_a_server_that_hangs(path: Path, server: WebhookServer) -> None:
    server.status = "hang"
    sink = station(path, server, notify=lambda text: None, timeout_s=60)
    ids = write(sink, 2)
    wait_for(lambda: server.requests, timeout_s=30)
    started_s = monotonic()
    sink.close()
    assert monotonic() - started_s < 5
    assert in_state(path, "waiting", "webhook") == ids


# --- refusals


def test_poison_is_set_aside_with_its_reason_and_the_queue_goes_on(path: Path, server: WebhookServer) -> None:
    notices: list[str] = []
    server.answers = [204, 400, 413, 204, 422]
    with station(path, server, notices.append) as sink:
        ids = write(sink, 8)
        wait_for(lambda: len(server.requests) == 8, timeout_s=30)
        wait_for(lambda: len(in_state(path, "delivered", "webhook")) == 5, timeout_s=20)
    assert server.taken == [ids[0], ids[3], ids[5], ids[6], ids[7]]
    sql = "SELECT result_id, reason FROM outbox WHERE state = 'refused' ORDER BY number"
    assert query(path, sql) == [
        (ids[1], "400 Bad Request: because of this"),
        (ids[2], "413 Request Entity Too Large: because of this"),
        (ids[4], "422 Unprocessable Entity: because of this"),
    ]
    assert len(notices) == 1
    assert f"record {ids[1]} was refused (400 Bad Request: because of this) and is set aside" in notices[0]


def test_a_refused_record_can_be_sent_again_by_hand(path: Path, server: WebhookServer) -> None:
    import sqlite3

    server.answers = [404, 404]
    with station(path, server, notify=lambda text: None) as sink:
        ids = write(sink, 3)
        wait_for(lambda: len(server.requests) == 3, timeout_s=30)
    with sqlite3.connect(path) as by_hand:
        by_hand.execute("UPDATE outbox SET state = 'waiting' WHERE receiver = 'webhook' AND state = 'refused'")
    with station(path, server):
        wait_for(lambda: len(server.taken) == 3, timeout_s=30)
    assert server.taken == [ids[2], ids[0], ids[1]]


# --- TLS and what is shown


def test_https_with_an_authority_of_our_own(tmp_path: Path, path: Path, server: WebhookServer) -> None:
    certificate, key = make_certificate(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert server._server
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    url, notices = server.url.replace("http:", "https:"), list[str]()
    with station(path, url, notices.append) as sink:
        ids = write(sink, 2)
        wait_for(lambda: notices, timeout_s=30)
    assert "certificate verify failed" in notices[0]
    with station(path, url, ca_file=certificate):
        wait_for(lambda: server.taken == ids, timeout_s=30)


def test_neither_secret_nor_path_is_told(path: Path) -> None:
    notices: list[str] = []
    url = f"http://127.0.0.1:{free_port()}/services/T0K3N"
    with station(path, url, notices.append, secret="hunter2") as sink:
        write(sink, 1)
        wait_for(lambda: notices, timeout_s=30)
    assert "T0K3N" not in notices[0] and "hunter2" not in notices[0]
    settings = WebhookSettings.model_validate({"url": url, "secret": "hunter2"})
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no scheme": ({"url": "host/hook"}, "expected an address such as"),
    "another scheme": ({"url": "ftp://host/hook"}, "expected an address such as"),
    "no host": ({"url": "https:///hook"}, "expected an address such as"),
    "no such port": ({"url": "https://host:99999/hook"}, "expected an address such as"),
    "a space": ({"url": "https://host/a hook"}, "expected an address such as"),
    "a login": ({"url": "https://user:hunter2@host/hook"}, "a login in the address"),
    "no patience": ({"timeout_s": 0}, "greater than or equal to 0.1"),
    "two secrets": ({"secret": "x", "secret_file": "f"}, "not both"),
    "empty secret": ({"secret": ""}, "`secret` is empty"),
    "authority without TLS": ({"url": "http://host", "ca_file": "ca.pem"}, "https:// only"),
    "unknown key": ({"timeout": 3}, "Extra inputs are not permitted"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_named_without_secrets(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(pydantic.ValidationError) as caught:
        WebhookSettings.model_validate({"url": "https://host/hook", **changes})
    (error,) = caught.value.errors()
    assert message in error["msg"]
    assert "\n" not in error["msg"]
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_used_are_one_clear_line(tmp_path: Path) -> None:
    for changes, message in (
        ({"secret_file": tmp_path / "absent"}, "the secret in it cannot be read"),
        ({"ca_file": tmp_path / "absent"}, "certificates in PEM cannot be read"),
    ):
        with pytest.raises(UsageError, match=message):
            WebhookReceiver(WebhookSettings.model_validate({"url": "https://host/hook", **changes}))
