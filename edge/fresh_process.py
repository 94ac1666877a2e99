"""Asking a Python module a question in a process of its own: what it loads, holds or dies of stays there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Any

# Every library that may start threads of its own follows the number asked for.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Answer:
    """document: the module's last line, or {"error"}. start_up_s: from starting the process to its first line."""

    document: dict[str, Any]
    start_up_s: float

    @property
    def error(self) -> str | None:
        """What went wrong, in one line."""
        error = self.document.get("error")
        return None if error is None else str(error)


def ask(
    module: str, question: dict[str, Any], threads: int, ready_line: str | None = None, timeout_s: float | None = None
) -> Answer:
    """Run `python -m module QUESTION` and read one line of JSON; whatever happens to the process, it is an Answer.

    threads: 1 or more. ready_line: a line the module prints before its answer, so that its start-up can be timed.
    """
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with tempfile.TemporaryFile("w+") as complaints:
        started_s = perf_counter()
        with subprocess.Popen(
            command_for(module, question), stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as worker:
            assert worker.stdout is not None
            with _killed_after(timeout_s, worker):
                first = worker.stdout.readline()
                start_up_s = perf_counter() - started_s
                last = worker.stdout.read()
                worker.wait()
        complaints.seek(0)
        line = last if ready_line is not None and first.strip() == ready_line else first
        return Answer(_parse(line, worker.returncode, complaints.read()), start_up_s)


def command_for(module: str, question: dict[str, Any]) -> list[str]:
    """The process to start."""
    return [sys.executable, "-P", "-m", module, json.dumps(question)]


class _killed_after:
    """Kills the process if the body takes longer than `timeout_s`; None: never."""

    def __init__(self, timeout_s: float | None, worker: subprocess.Popen[str]) -> None:
        self._timer = threading.Timer(timeout_s, worker.kill) if timeout_s is not None else None

    def __enter__(self) -> None:
        if self._timer:
            self._timer.start()

    def __exit__(self, *error: object) -> None:
        if self._timer:
            self._timer.cancel()


def _parse(line: str, exit_code: int, complaints: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        last_complaint = (complaints.strip().splitlines() or ["no message"])[-1]
        return {"error": f"the process {_ended(exit_code)}: {last_complaint[:200]}"}
    return answer


def _ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with {exit_code}"
    return f"was killed by signal {-exit_code} ({signal.strsignal(-exit_code) or 'unknown'})"
