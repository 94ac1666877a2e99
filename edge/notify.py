"""Telling a person, in one line, what happened and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

Notify = Callable[[str], None]


def say(text: str) -> None:
    """On stderr: stdout belongs to the records. One that is closed or on a full disk stops nobody who has to work."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"oddkind: {text}\n")  # in one piece: several threads have something to say
        sys.stderr.flush()


def unfailing(notify: Notify) -> Notify:
    """For threads that must go on when nobody can be told, as when stderr is closed."""

    def tell(text: str) -> None:
        with suppress(Exception):
            notify(text)

    return tell


def one_line(exc: Exception) -> str:
    """What an error says, for a record or a notice; errors that are not ours are named by their type."""
    text = str(exc).strip()
    first = text.splitlines()[0] if text else ""
    return first if type(exc).__module__.startswith("edge") else f"{type(exc).__name__}: {first}"


class Trouble:
    """Something that is wrong for a while: told when it begins and when it is over, however often it is met between."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self.is_on = False

    def met(self, text: str) -> None:
        """It is there; `text` is told if it was not."""
        if not self.is_on:
            self._notify(text)
        self.is_on = True

    def over(self, text: str) -> None:
        """It is not there; `text` is told if it was."""
        if self.is_on:
            self._notify(text)
        self.is_on = False


def is_worth_telling(count: int) -> bool:
    """The 1st, 10th, 100th and so on of something that may happen with every frame."""
    return str(count).strip("0") == "1"
