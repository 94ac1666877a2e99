"""Who may ask a station what: every route it has, with and without the token; and pages of other sites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
from mosquitto import free_port
from output_records import FRAME_BGR, an_inspection
from page_client import ask
from starlette.routing import Route

from edge.errors import UsageError
from edge.outputs.http_output import HttpOutput, HttpSink
from edge.page.admission import Admission
from edge.station.check import check_station
from edge.station.control import Control

TOKEN = "a-token-of-some-length"
RIGHT, WRONG = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer a-token-of-some-lengt"}
COOKIE = Admission(TOKEN).cookie
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "page.md"


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[HttpSink, int]]:
    settings = HttpOutput(host="0.0.0.0", port=free_port(), token=pydantic.SecretStr(TOKEN))
    control = Control()
    control.take_triggers("camera", lambda asked: None)
    with HttpSink(settings, ["camera"], control) as sink:
        assert isinstance(sink, HttpSink)
        sink.write(an_inspection(0, "defect"), FRAME_BGR)
        yield sink, settings.port


@pytest.fixture
def open_port() -> Iterator[int]:
    settings = HttpOutput(port=free_port())
    with HttpSink(settings, ["camera"], Control()):
        yield settings.port


def routes_of(sink: HttpSink) -> list[Route]:
    routes = sink._app.asgi.routes
    assert all(isinstance(route, Route) for route in routes)
    return [route for route in routes if isinstance(route, Route)]


def paths_of(sink: HttpSink, port: int) -> list[str]:
    """Every route, with things that are there; and some that are not."""
    (record,) = ask(port, "/api/rejects", headers=RIGHT).json["rejects"]
    paths = [r.path.replace("{camera:int}", "0").replace("{result_id}", record["result_id"]) for r in routes_of(sink)]
    assert len(paths) > 20 and not any("{" in path for path in paths)
    return [*paths, "/no/such/page", "//metrics", "/metrics/", "/api/../metrics", "/static/", "/%2e%2e/login"]


# --- the token


def test_without_the_token_every_route_is_refused_whatever_the_method(guarded: tuple[HttpSink, int]) -> None:
    sink, port = guarded
    let_in = []
    for path in paths_of(sink, port):
        for method in METHODS:
            for headers in ({}, WRONG, {"Cookie": f"oddkind_session_{port}=x"}, {"Authorization": f"Basic {TOKEN}"}):
                answer = ask(port, path, method=method, headers=headers)
                if answer.status != 401 or b"state" in answer.content or "set-cookie" in answer.headers:
                    let_in.append((method, path, headers, answer.status))
    assert let_in == []


def test_with_the_token_no_route_is_refused(guarded: tuple[HttpSink, int]) -> None:
    sink, port = guarded
    for route, path in zip(routes_of(sink), paths_of(sink, port), strict=False):
        for method in route.methods or ():
            answer = ask(port, path, method=method, headers=RIGHT, head_only=True)
            assert answer.status not in (401, 403, 500), (method, path, answer)
    for path in ("/", "/metrics", "/api/state", "/static/page.js", "/api/cameras/0/picture.jpg", "/api/rejects"):
        assert ask(port, path, headers=RIGHT).status == 200


def test_a_browser_logs_in_once_and_carries_a_cookie(guarded: tuple[HttpSink, int]) -> None:
    _, port = guarded
    form = ask(port, "/", headers={"Accept": "text/html"})
    assert form.status == 401
    assert b'action="/login"' in form.content and form.headers["www-authenticate"].startswith("Bearer")
    assert "default-src 'none'" in form.headers["content-security-policy"]
    wrong = ask(port, "/login", b"token=nothing-of-the-kind", headers={"Accept": "text/html"})
    assert wrong.status == 401 and b"this is not the token" in wrong.content
    right = ask(port, "/login", f"token={TOKEN}".encode())
    assert (right.status, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    session = {"Cookie": f"other=1; {cookie.partition(';')[0]}"}
    assert ask(port, "/api/state", headers=session).status == 200
    assert ask(port, "/api/pause", {}, headers=session).json["state"] == "paused"
    assert ask(port, "/api/arm", {}, headers={**session, "Origin": f"http://127.0.0.1:{port}"}).status == 200
    assert ask(port, "/api/pause", {}, headers={**session, "Origin": "http://evil.example"}).status == 403


def test_a_session_ends_with_its_token() -> None:
    session = Admission(TOKEN).session
    assert Admission(TOKEN).refusal("GET", {"cookie": f"{COOKIE}={session}"}) is None
    refusal = Admission("another-token-of-length").refusal("GET", {"cookie": f"{COOKIE}={session}"})
    assert refusal and refusal.status == 401


def test_two_stations_on_one_machine_do_not_log_each_other_out(guarded: tuple[HttpSink, int]) -> None:
    """A browser sends every port of a host the same cookies, one of each name."""
    _, port = guarded
    cookie = ask(port, "/login", f"token={TOKEN}".encode()).headers["set-cookie"].partition(";")[0]
    name, value = cookie.split("=")
    assert name.endswith(f"_{port}")
    other = Admission("another-token-of-length", port + 1)
    both = {"Cookie": f"{name}={value}; {other.cookie}={other.session}"}
    assert ask(port, "/api/state", headers=both).status == 200
    assert other.refusal("GET", {"cookie": both["Cookie"]}) is None


# --- settings


@pytest.mark.parametrize(
    "token", ["paßwort-ist-länger", "пароль-достаточной-длины", f"{TOKEN} ", "two words of some length"]
)
def test_a_token_that_no_header_can_carry_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="signs of ASCII, without blanks"):
        HttpOutput.model_validate({"token": token})
    path = tmp_path / "token"
    path.write_text(f"{token}\n", "utf-8")
    if token.strip() != TOKEN:
        with pytest.raises(UsageError, match="signs of ASCII, without blanks"):
            HttpOutput(token_file=path).read_token()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "press-3", "localhost.example"])
def test_beyond_loopback_a_token_is_required(host: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="can be reached from other machines: give a `token_file`"):
        HttpOutput(host=host)
    assert HttpOutput.model_validate({"host": host, "token": TOKEN}).read_token() == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_none_is(host: str) -> None:
    assert HttpOutput(host=host).read_token() is None


def test_a_token_must_be_long_and_have_one_place(tmp_path: Path) -> None:
    with pytest.raises(pydantic.ValidationError, match="at least 16"):
        HttpOutput.model_validate({"token": "short"})
    path = tmp_path / "token"
    path.write_text("short\n")
    with pytest.raises(UsageError, match="expected a token of 16 characters at least"):
        HttpOutput(token_file=path).read_token()
    with pytest.raises(pydantic.ValidationError, match="not both"):
        HttpOutput.model_validate({"token": TOKEN, "token_file": path})
    path.write_text(f"{TOKEN}\n")
    assert HttpOutput(token_file=path).read_token() == TOKEN


def test_the_check_of_a_station_file_says_so_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ODDKIND_TOKEN", raising=False)
    file = tmp_path / "station.yaml"
    start = "bundle: b\ncameras: [{source: p}]\noutputs:\n  records: {file: '-'}\n"
    file.write_text(f"{start}  http:\n    host: 0.0.0.0\n")
    (said,) = [str(p) for p in check_station(file).problems if "http" in str(p)]
    assert said.startswith("5: outputs.http: host 0.0.0.0 can be reached from other machines: give a `token_file`")
    file.write_text(f"{start}  http: {{host: 0.0.0.0, token_file: none}}\n")
    (said,) = [str(p) for p in check_station(file).problems if "http" in str(p)]
    assert said.startswith("5: outputs.http.token_file: no such file")
    file.write_text(f"{start}  http: {{host: 0.0.0.0, token: '${{ODDKIND_TOKEN}}'}}\n")
    assert any("ODDKIND_TOKEN" in str(p) for p in check_station(file).problems)
    monkeypatch.setenv("ODDKIND_TOKEN", TOKEN)
    assert not [p for p in check_station(file).problems if "http" in str(p)]


# --- loopback without a token


def test_another_name_for_this_machine_is_refused(open_port: int) -> None:
    """A page whose name was pointed at 127.0.0.1 while it was open would otherwise read everything."""
    for host in ("evil.example", f"evil.example:{open_port}", "localhost.evil.example", "127.0.0.1.evil.example", "["):
        assert ask(open_port, "/api/state", headers={"Host": host}).status == 403
    for host in ("localhost", f"127.0.0.1:{open_port}", "[::1]:1", "LOCALHOST:8080"):
        assert ask(open_port, "/api/state", headers={"Host": host}).status == 200


def test_what_another_site_sends_is_refused(open_port: int) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{open_port + 1}"},
        {"Origin": "http://[::"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = ask(open_port, "/api/pause", {}, headers=headers)
        assert answer.status == 403 and answer.headers["x-content-type-options"] == "nosniff"
    for nobody in ({"origin": "null"}, {"origin": ""}):  # HTTP/1.0 without Host
        refusal = Admission(None).refusal("POST", nobody)
        assert refusal and refusal.status == 403
    assert ask(open_port, "/api/state").json["state"] != "fault"
    own = {"Origin": f"http://127.0.0.1:{open_port}", "Sec-Fetch-Site": "same-origin"}
    assert ask(open_port, "/api/pause", {}, headers=own).status == 200


def test_every_answer_forbids_the_browser_what_the_page_does_not_need(open_port: int) -> None:
    for path in ("/", "/static/page.js", "/api/state", "/metrics", "/no/such/page"):
        headers = ask(open_port, path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


# --- what there is


def test_the_table_of_the_page_names_every_route(guarded: tuple[HttpSink, int]) -> None:
    named = set(re.findall(r"^\| `([A-Z]+) (\S+)` \|", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE))
    paths = {route.path: (route.methods or set()) - {"HEAD"} for route in routes_of(guarded[0])}
    there = {(m, p.replace(":int", "")) for p, methods in paths.items() for m in methods}
    there = {(m, "/static/{file}" if p.startswith("/static/") else p) for m, p in there}
    assert there == named


def test_without_a_page_machines_alone_are_served() -> None:
    settings = HttpOutput(port=free_port(), page=False)
    with HttpSink(settings, ["camera"], Control()) as sink:
        sink.write(an_inspection(0, "defect"), FRAME_BGR)
        for path in ("/", "/static/page.js", "/api/rejects", "/api/cameras/0/picture.jpg", "/api/enrolment"):
            assert ask(settings.port, path).status == 404
        state = ask(settings.port, "/api/state").json
        assert (state["rejects"], state["cameras"][0]["picture"], state["counts"]["defect"]) == (0, 0, 1)
        assert ask(settings.port, "/api/pause", {}).json == {"state": "paused", "reason": "paused by http"}
