"""Work on all cores: a function over many tasks in processes of our own. The only file that starts processes for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from edge.errors import WorkerError

Task = TypeVar("Task")
Done = TypeVar("Done")

# Tasks handed out ahead of the one whose result is due, per process: enough that none waits, few enough for memory.
AHEAD_PER_JOB = 3


class Crew(Protocol):
    """Those who do the work, one or many. jobs: how many work side by side."""

    @property
    def jobs(self) -> int:
        """How many work side by side."""

    def map(self, function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
        """Results of `function` over `tasks`, a bounded number of which is out at any time."""


@dataclass(frozen=True)
class ThisProcess:
    """No pool: each task is done when its result is asked for."""

    jobs: int = 1

    def map(self, function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
        """Results in the order of the tasks."""
        return map(function, tasks)


@dataclass(frozen=True)
class ProcessCrew:
    """`jobs` fresh processes. Fresh, because a copy of one that runs threads (a runtime's) may hang."""

    jobs: int

    def map(self, function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
        """Results in the order of the tasks; WorkerError when a process died. A task's own error is raised as it is."""
        waiting = iter(tasks)
        out: deque[tuple[Task, Future[Done]]] = deque()
        pool = ProcessPoolExecutor(self.jobs, multiprocessing.get_context("spawn"), _begin_worker)
        try:
            while True:
                for task in islice(waiting, self.jobs * AHEAD_PER_JOB - len(out)):
                    out.append((task, pool.submit(function, task)))
                if not out:
                    return
                done = out[0][1].result()
                out.popleft()
                yield done
        except BrokenProcessPool as exc:
            raise _death(out[0][0] if out else next(waiting, None)) from exc
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """Ctrl-C reaches the whole group: the parent alone answers it. And nobody works on for a parent that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _death(task: object) -> WorkerError:
    return WorkerError(
        f"a worker process died, killed or out of memory, at or after {task}; what was written is kept: "
        "give the same command again, with fewer --jobs if memory is short"
    )
