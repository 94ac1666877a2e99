"""Telling a person, in one line, what happened and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Callable

Notify = Callable[[str], None]


def say(text: str) -> None:
    """On stderr: stdout belongs to the records."""
    sys.stderr.write(f"oddkind: {text}\n")  # in one piece: several threads have something to say
    sys.stderr.flush()


def one_line(exc: Exception) -> str:
    """What an error says, for a record or a notice; errors that are not ours are named by their type."""
    text = str(exc).strip()
    first = text.splitlines()[0] if text else ""
    return first if type(exc).__module__.startswith("edge") else f"{type(exc).__name__}: {first}"
