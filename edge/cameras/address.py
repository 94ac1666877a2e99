"""What a `--source` text means, and how it may be shown: never with its password."""

from __future__ import annotations

import os
import re
from pathlib import Path

URL_SCHEMES = ("rtsp", "rtsps", "http", "https")
MAKERS = ("genicam", "basler")  # `genicam:ID`: machine vision cameras, each reached through a package of its own
EXPECTED = (
    f"a camera number, /dev/videoN, {', '.join(f'{s}://' for s in URL_SCHEMES)}, genicam:ID, basler:SERIAL, "
    "a video file or a picture folder"
)

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# Many cameras take the password in the address: /video.cgi?user=a&pwd=b, /user=a_password=b_channel=1.sdp
_SECRET = re.compile(r"((?:pas\w*|pwd|pw|token|secret|\w*key|auth|signature|sig)=)[^&;#]*", re.IGNORECASE)


def url_scheme(source: str) -> str | None:
    """`rtsp` of `rtsp://camera/1`, in lower case; None when `source` is not a URL."""
    match = _URL.match(source)
    return match[1].lower() if match else None


def is_live(source: str) -> bool:
    """Whether `source` is a camera or a stream, which sends at its own pace, and not a file or folder."""
    return source.isdecimal() or is_device(source) or maker(source) is not None or url_scheme(source) is not None


def maker(source: str) -> str | None:
    """`genicam` of `genicam:ID`, in lower case; None when `source` is no machine vision camera."""
    word, colon, rest = source.partition(":")
    return word.lower() if colon and word.lower() in MAKERS and not rest.startswith("//") else None


def maker_id(source: str) -> str:
    """`ID` of `genicam:ID`; empty for the only camera there is."""
    return source.partition(":")[2].strip()


def is_device(source: str) -> bool:
    """Whether it is a device file such as /dev/video0, plugged in or not."""
    if source.startswith("/dev/"):
        return True
    try:
        return Path(source).is_char_device()
    except OSError:  # too long for a path
        return False


def identity(source: str) -> str:
    """The same text for the same camera, safe to show: one folder has many paths."""
    is_path = url_scheme(source) is None and os.path.exists(source)  # noqa: PTH110  # Path.exists raises on long names
    return printable(Path(source).resolve()) if is_path else redacted(source)


def redacted(source: str) -> str:
    """`source` as it may stand in a record, a log or an error: `rtsp://user:***@camera/1`, always valid UTF-8."""
    match = _URL.match(source)
    if not match:
        return printable(source)
    login, host_and_path = _split_login(match[2])
    user, colon, _ = login.partition(":")
    shown = "" if not login else f"{user}:***@" if colon else "***@"
    return printable(f"{match[1]}://{shown}" + _SECRET.sub(r"\1***", host_and_path))


def printable(text: str | Path) -> str:
    """Text that JSON and a terminal can carry: bytes of a file name that are no UTF-8 become `\\xNN`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _split_login(rest: str) -> tuple[str, str]:
    """`user:password@host/path` -> login, host and path; a password may hold '@' or '/' that nobody escaped."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and not (":" in authority and "@" in rest):
        return "", rest
    # In `user:pass/word@host` the login ends at the last '@' of all. Better to hide part of a path than to show one.
    login_and_host = authority if "@" in authority else rest
    login, _, host = login_and_host.rpartition("@")
    return login, host + rest[len(login_and_host) :]
