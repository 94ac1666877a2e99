"""Who may ask what: a token where there is one; without it, loopback alone, and no page of another site.

Plain decisions on method and headers, so that nothing can be routed around them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

COOKIE = "oddkind_session"
LET_IN = "let_in"  # in a request's state: what is called when it may pass, so that its connection is kept
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the one that was asked for."""

    status: int
    text: str


class Admission:
    """Decides on every request before it reaches any route. token: None on loopback alone.

    port: browsers keep one set of cookies for all ports of a host, so the cookie's name says whose it is.
    """

    def __init__(self, token: str | None, port: int = 8080) -> None:
        self.cookie = f"{COOKIE}_{port}"
        self._token = token.encode() if token is not None else None

    @property
    def needs_token(self) -> bool:
        """Whether anybody has to prove himself."""
        return self._token is not None

    def refusal(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """None for those who may pass. headers: names in lower case."""
        if method not in SAFE_METHODS and not _is_same_site(headers):
            return Refusal(403, "this request comes from another site's page; open the station's own page")
        if self._token is None:
            host = headers.get("host")  # browsers always say it
            if host is None or is_loopback(_host_name(host)):
                return None
            return Refusal(403, "expected Host: localhost or a loopback address; other names need a token")
        if self.is_right(_bearer(headers)) or self._is_session(_cookie(headers, self.cookie)):
            return None
        return Refusal(401, "a token is needed: 'Authorization: Bearer TOKEN', or log in on the page")

    def is_right(self, token: str) -> bool:
        """Whether this is the token; takes as long for a wrong one."""
        return self._token is not None and hmac.compare_digest(_digest(token.encode()), _digest(self._token))

    @property
    def session(self) -> str:
        """Value of the cookie of those who showed the token; it ends when the token is changed."""
        assert self._token is not None
        return hmac.new(self._token, b"oddkind session", hashlib.sha256).hexdigest()

    def _is_session(self, cookie: str) -> bool:
        return hmac.compare_digest(_digest(cookie.encode()), _digest(self.session.encode()))


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`, or can be meant by it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_same_site(headers: Mapping[str, str]) -> bool:
    """Browsers name the page that asks; programs name none, and carry no cookie of somebody else."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    try:
        asked_from = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    return bool(asked_from) and asked_from == headers.get("host", "").lower()


def _host_name(host: str) -> str:
    """`[::1]:8080` -> `::1`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Mapping[str, str], wanted: str) -> str:
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")


def _digest(content: bytes) -> bytes:
    """Of one length, so that not even the length of a token shows."""
    return hashlib.sha256(content).digest()
