"""Processes of our own: results in order, errors as they were, nobody left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_processes import kill, parent_of, wait_for, workers_of

from edge.errors import PictureError, WorkerError
from edge.pool import AHEAD_PER_JOB, ProcessCrew, ThisProcess

ROOT = Path(__file__).resolve().parents[2]


def slow_double(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 3))
    return 2 * number, os.getpid()


def refuse(number: int) -> int:
    if number == 3:
        raise PictureError(f"{number}: not a picture")
    return number


def die(number: int) -> int:
    if number == 5:
        kill(os.getpid())
    return number


def test_results_come_in_the_order_of_the_tasks_from_several_processes() -> None:
    results = list(ProcessCrew(2).map(slow_double, range(20)))
    assert [value for value, _ in results] == [2 * number for number in range(20)]
    pids = {pid for _, pid in results}
    assert len(pids) == 2 and os.getpid() not in pids
    assert [v for v, _ in ThisProcess().map(slow_double, range(3))] == [0, 2, 4]


def test_tasks_are_taken_only_as_far_ahead_as_promised() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ProcessCrew(2).map(slow_double, tasks())
    next(results)
    assert len(taken) <= 2 * AHEAD_PER_JOB
    next(results)
    assert len(taken) <= 2 * AHEAD_PER_JOB + 1
    results.close()  # type: ignore[attr-defined]
    wait_for(lambda: not workers_of(os.getpid()))


def test_an_error_of_a_task_arrives_as_it_was_and_ends_the_processes() -> None:
    done = []
    with pytest.raises(PictureError, match="3: not a picture"):
        for value in ProcessCrew(2).map(refuse, range(10)):
            done.append(value)
    assert done == [0, 1, 2]
    assert not workers_of(os.getpid())


def test_a_process_that_dies_is_one_clear_error() -> None:
    with pytest.raises(
        WorkerError, match=r"a worker process died, killed or out of memory, at or after [0-5]; .* again"
    ):
        list(ProcessCrew(2).map(die, range(10)))


def test_no_process_works_on_for_a_parent_that_was_killed() -> None:
    script = "import time, edge.pool as p\nif __name__ == '__main__': list(p.ProcessCrew(2).map(time.sleep, [600] * 4))"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_for(lambda: len(workers_of(parent.pid)) == 2)
    workers = workers_of(parent.pid)
    time.sleep(1)  # until they are at work
    kill(parent.pid)
    parent.wait()
    wait_for(lambda: all(parent_of(pid) is None for pid in workers), timeout_s=10)
