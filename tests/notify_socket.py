"""systemd's side of sd_notify: a real datagram socket that keeps what it is told, in order, with the time."""

from __future__ import annotations

import socket
import threading
from time import monotonic


class NotifySocket:
    """Listens at `address`, a path or, with `@` in front, an abstract name; `with` it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[str] = []
        self.told_at_s: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def count(self, message: str) -> int:
        """How often it was told that."""
        return self.told.count(message)

    def last_status(self) -> str:
        """The newest STATUS, without its name."""
        lines = [line for message in self.told for line in message.splitlines()]
        return next((line[7:] for line in reversed(lines) if line.startswith("STATUS=")), "")

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.told_at_s.append(monotonic())
            self.told.append(message.decode())

    def __enter__(self) -> NotifySocket:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
