"""The files of the page, read once from the package."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib import resources

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = ("page.css", "page.js", "chart.js", "enrol.js", "station.js", "icon.svg")


@cache
def page_file(name: str) -> tuple[bytes, str]:
    """Content and media type of a file of the page."""
    content = resources.files("edge.page").joinpath("static", name).read_bytes()
    return content, MEDIA_TYPES[name[name.rindex(".") :]]


def login_page(said: str) -> tuple[bytes, str]:
    """The form that asks for the token, and the policy under which it may use its own style and nothing else."""
    text = page_file("login.html")[0].decode("utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'"
    return text.replace("{said}", escape(said)).encode(), policy
