"""Telling systemd how the loop is: `sd_notify` in plain Python, see sd_notify(3). Without systemd it does nothing.

The watchdog is fed by the thread that inspects, when its loop comes round, and by nothing else: a loop that hangs
starves it, and systemd starts the station again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType

from edge.notify import Notify, say

FEEDINGS = 3  # in the time after which systemd gives up


class ServiceManager:
    """Who started us. address: of its socket, None when nobody listens. watchdog_s: None when it does not watch.

    Whatever goes wrong with telling it is said once and holds nothing. clock: in seconds.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        notify: Notify = say,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._address, self._notify, self._clock = address, notify, clock
        self._period_s = watchdog_s / FEEDINGS if watchdog_s else None
        self._fed_at_s = float("-inf")
        self._is_ready, self._has_failed = False, False
        self._status = ""

    @classmethod
    def of_environment(cls, notify: Notify = say, environment: Mapping[str, str] = os.environ) -> ServiceManager:
        """As systemd describes itself to what it starts."""
        return cls(environment.get("NOTIFY_SOCKET") or None, _watchdog_s(environment), notify)

    def came_round(self) -> None:
        """The loop has come round, with or without a frame; cheap, to be called often."""
        if self._address is None or self._period_s is None:
            return
        now_s = self._clock()
        if now_s - self._fed_at_s >= self._period_s and self._tell("WATCHDOG=1"):
            self._fed_at_s = now_s

    def has_record(self, status: str) -> None:
        """A record was written; the first one says that the station is ready. status: for a person, sent when new."""
        self.is_ready(status)

    def is_ready(self, status: str) -> None:
        """The station does what it is for; said once."""
        if not self._is_ready:
            self._is_ready = self._tell(f"READY=1\nSTATUS={status}")
            self._status = status if self._is_ready else ""
        self.has_status(status)

    def has_status(self, status: str) -> None:
        """What `systemctl status` shows; sent when it is new."""
        if status != self._status and self._tell(f"STATUS={status}"):
            self._status = status

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> bool:
        """Whether it was taken. Never waits: a socket that is full is an error like any other."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto(message.encode(), _socket_name(self._address))
        except (OSError, ValueError) as exc:  # ValueError: an address that none can be
            if not self._has_failed:
                self._notify(f"the service manager at {self._address} cannot be told ({exc}); inspection goes on")
            self._has_failed = True
            return False
        return True


def _socket_name(address: str) -> str:
    """`@` stands for the zero byte with which an abstract name begins."""
    return f"\0{address[1:]}" if address.startswith("@") else address


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds; None when nobody watches, or watches another process whose environment this one has."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return (int(text) / 1e6 or None) if text.isascii() and text.isdecimal() else None
