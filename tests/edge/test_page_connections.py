"""Who keeps a connection when there are too many, and how soon a kept one answers: over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from time import perf_counter, sleep

import pydantic
import pytest
from mosquitto import free_port

from edge.outputs.http_output import HttpOutput, HttpSink
from edge.page.server import MOST_CONNECTIONS
from edge.station.control import Control

TOKEN = "a-token-of-some-length"
HALF_LOGIN = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\ntoken="
WITH_TOKEN = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"


@pytest.fixture
def port() -> Iterator[int]:
    settings = HttpOutput(port=free_port(), token=pydantic.SecretStr(TOKEN))
    with HttpSink(settings, ["camera"], Control()):
        yield settings.port


def answers(port: int, count: int = 5) -> list[bytes]:
    """First bytes of the answers to so many who have the token, each with a connection of its own."""
    found = []
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
            try:
                client.sendall(f"GET /api/state {WITH_TOKEN}".encode())
                found.append(client.recv(12))
            except OSError as exc:
                found.append(repr(exc).encode())
    return found


def crowd(opened: ExitStack, port: int, count: int, says: bytes = b"") -> None:
    """So many clients at once that say this much, and then nothing."""
    for _ in range(count):
        client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=3))
        with suppress(OSError):  # cut off already
            client.sendall(says)


def test_slow_logins_without_the_token_keep_nobody_out(port: int) -> None:
    with ExitStack() as opened:
        crowd(opened, port, MOST_CONNECTIONS + 6, HALF_LOGIN)
        sleep(0.3)  # every one of them is being answered now
        assert answers(port) == [b"HTTP/1.1 200"] * 5


def test_a_burst_of_silent_connections_keeps_nobody_out(port: int) -> None:
    with ExitStack() as opened:
        crowd(opened, port, 300)
        assert answers(port) == [b"HTTP/1.1 200"] * 5


def test_strangers_cut_off_nobody_who_was_let_in(port: int) -> None:
    with ExitStack() as opened, closing(HTTPConnection("127.0.0.1", port, timeout=3)) as kept:
        viewer = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=3))
        viewer.sendall(f"GET /api/events {WITH_TOKEN}".encode())
        kept.request("GET", "/api/state", headers={"Authorization": f"Bearer {TOKEN}"})
        kept.getresponse().read()
        mine = kept.sock
        crowd(opened, port, 3 * MOST_CONNECTIONS, HALF_LOGIN)
        sleep(0.3)
        kept.request("GET", "/api/state", headers={"Authorization": f"Bearer {TOKEN}"})
        assert kept.getresponse().status == 200 and kept.sock is mine
        for _ in range(20):
            assert viewer.recv(65_536) != b""


def test_of_those_let_in_one_that_asks_for_nothing_makes_room(port: int) -> None:
    with ExitStack() as opened:
        crowd(opened, port, 1, f"GET /api/events {WITH_TOKEN}".encode())
        crowd(opened, port, MOST_CONNECTIONS - 1, f"GET /api/state {WITH_TOKEN}".encode())
        sleep(0.3)
        viewer = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=3))
        viewer.sendall(f"GET /api/events {WITH_TOKEN}".encode())
        assert viewer.recv(12) == b"HTTP/1.1 200"
        assert answers(port) == [b"HTTP/1.1 200"] * 5
        for _ in range(5):
            assert viewer.recv(65_536) != b""


def test_a_kept_connection_answers_without_waiting_for_an_acknowledgement(port: int) -> None:
    """Held back by Nagle's algorithm, an answer takes 40 ms and more."""
    costs_s = []
    with closing(HTTPConnection("127.0.0.1", port, timeout=3)) as kept:
        for _ in range(40):
            started_s = perf_counter()
            kept.request("GET", "/api/state", headers={"Authorization": f"Bearer {TOKEN}"})
            kept.getresponse().read()
            costs_s.append(perf_counter() - started_s)
    assert sorted(costs_s)[20] < 0.03
