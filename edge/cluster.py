"""Work on many machines. The only file that imports dask."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from edge.errors import OddkindError, UsageError, WorkerError

Task = TypeVar("Task")
Done = TypeVar("Done")

CONNECT_TIMEOUT_S = 5.0
FIRST_WORKER_TIMEOUT_S = 30.0
# Tasks out at a time, per thread of the cluster: the scheduler never holds the listing of millions of pictures.
AHEAD_PER_THREAD = 3
RETRIES = 2  # of a task that failed by itself, such as on a store that did not answer; a dead worker is not counted


@dataclass(frozen=True)
class DaskCrew:
    """The workers behind a connected Dask client."""

    client: Any

    @property
    def jobs(self) -> int:
        """Threads of all workers that there are now."""
        with _border("the number of workers"):
            threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    def map(self, function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
        """Results as they come, in any order. WorkerError when scheduler or workers are lost for good."""
        waiting, run = iter(tasks), uuid.uuid4().hex[:8]
        out: Any = _distributed().as_completed(loop=self.client.loop)
        names: dict[str, str] = {}
        while True:
            for task in islice(waiting, max(0, self.jobs * AHEAD_PER_THREAD - out.count())):
                key = f"oddkind-{run}-{len(names)}"
                names[key] = str(task)
                with _border(names[key]):
                    out.add(self.client.submit(function, task, key=key, pure=False, retries=RETRIES))
            if not out.count():
                return
            future = next(out)
            with _border(names[future.key]):
                done: Done = future.result()
            yield done


@contextmanager
def dask_crew(scheduler: str | None, workers: int | None) -> Iterator[DaskCrew]:
    """The cluster at `scheduler`, such as `tcp://host:8786`, or a fresh one of `workers` processes on this machine."""
    distributed = _distributed()
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it becomes our own error
    if scheduler is None:
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield DaskCrew(client)
        return
    client = _connected(distributed, scheduler)
    try:
        yield DaskCrew(client)
    finally:
        client.close(timeout=CONNECT_TIMEOUT_S)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as exc:
        raise UsageError(
            "--scheduler and --dask-workers need Dask, which is not installed; pip install 'oddkind[cluster]'"
        ) from exc
    return distributed


def _connected(distributed: Any, scheduler: str) -> Any:
    _refuse_absent(distributed, scheduler)
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise _no_scheduler(scheduler) from exc
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_TIMEOUT_S)
    except OSError as exc:
        client.close(timeout=CONNECT_TIMEOUT_S)
        raise WorkerError(
            f"the scheduler at {scheduler} has no workers after {FIRST_WORKER_TIMEOUT_S:g} s; start some with "
            f"'dask worker {scheduler} --nthreads 1'"
        ) from exc
    return client


def _refuse_absent(distributed: Any, scheduler: str) -> None:
    """UsageError for what is no address, WorkerError when no scheduler answers there.

    Dask's client waits for ever for somebody who takes the call and says nothing, a web server for one.
    """
    address = scheduler if "://" in scheduler else f"tcp://{scheduler}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise UsageError(f"--scheduler {scheduler}: expected an address such as tcp://host:8786")

    async def greet() -> None:
        security = distributed.Security().get_connection_args("client")
        call = distributed.comm.connect(address, timeout=CONNECT_TIMEOUT_S, **security)
        (await asyncio.wait_for(call, CONNECT_TIMEOUT_S)).abort()

    try:
        asyncio.run(greet())
    except (OSError, ValueError) as exc:  # a timeout is an OSError
        raise _no_scheduler(scheduler) from exc


def _no_scheduler(scheduler: str) -> WorkerError:
    return WorkerError(
        f"no Dask scheduler at {scheduler} within {CONNECT_TIMEOUT_S:g} s; start one with 'dask scheduler', or give "
        "its address, such as tcp://host:8786"
    )


@contextmanager
def _border(task: str) -> Iterator[None]:
    """Whatever goes wrong with the cluster becomes one of our errors."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    kept = "finished shards are kept: give the same command again"
    try:
        yield
    except OddkindError:
        raise
    except KilledWorker as exc:
        raise WorkerError(f"workers died again and again on {task}, killed or out of memory; {kept}") from exc
    except (CancelledError, CommClosedError) as exc:
        raise WorkerError(f"the scheduler was lost; {kept}") from exc
    except Exception as exc:
        raise WorkerError(
            f"the cluster failed on {task} ({type(exc).__name__}: {str(exc)[:300]}); the same oddkind[cluster] must be "
            f"installed on scheduler and workers; {kept}"
        ) from exc
