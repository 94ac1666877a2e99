"""Questions to a process of its own: whatever becomes of it is an answer."""

from __future__ import annotations

import signal
import sys
from time import monotonic

import pytest

from edge import fresh_process
from edge.fresh_process import THREAD_VARIABLES, Answer, ask


def ask_script(monkeypatch: pytest.MonkeyPatch, script: str, **options: object) -> Answer:
    """The answer of a real process that runs `script` in place of a module."""
    monkeypatch.setattr(fresh_process, "command_for", lambda module, question: [sys.executable, "-c", script])
    return ask("edge.any", {}, threads=3, **options)  # type: ignore[arg-type]


def test_the_last_line_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask_script(monkeypatch, "print('ready'); print('{\"figure\": 4}')", ready_line="ready")
    assert answer.document == {"figure": 4}
    assert answer.error is None
    assert answer.start_up_s > 0


def test_threads_are_told_to_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"import json, os; print(json.dumps({{name: os.environ[name] for name in {THREAD_VARIABLES}}}))"
    assert set(ask_script(monkeypatch, script).document.values()) == {"3"}


def test_a_process_that_dies_by_a_signal_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask_script(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert answer.error == f"the process was killed by signal {signal.SIGILL:d} (Illegal instruction): no message"


def test_a_process_that_fails_leaves_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask_script(monkeypatch, "1 / 0").error == "the process ended with 1: ZeroDivisionError: division by zero"


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started_s = monotonic()
    answer = ask_script(monkeypatch, "import time; time.sleep(60)", timeout_s=0.5)
    assert answer.error and "signal 9" in answer.error
    assert monotonic() - started_s < 30


def test_a_module_answers_with_its_own_error(tmp_path: object) -> None:
    probe = {"bundle": str(tmp_path), "backend": "onnxruntime", "precision": "int8", "threads": 1}
    answer = ask("edge.probe_worker", {**probe, "embeddings_path": f"{tmp_path}/e.npz"}, threads=1)
    assert answer.error and "is not a bundle" in answer.error
