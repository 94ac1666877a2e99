"""Scoring one shard: what travels to a worker, and what the worker does with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import edge
from edge import bundle_parcel
from edge.batch import Batch
from edge.errors import BundleError, WorkerError
from edge.file_store import FileStore
from edge.heap import keep_freed_memory
from edge.inspector import Inspector
from edge.setting import InspectorSetting, inspector_for
from edge.shards import Shard

SHARDS = "shards"
LATENCIES_KEPT = 200  # a shard, for the figures of the run


@dataclass(frozen=True)
class ShardTask:
    """A shard, where its rows go, and how. parcel: the bundle beside the results, None where its folder is at hand."""

    shard: Shard
    batch: Batch
    out: FileStore
    parcel: str | None = None
    version: str = edge.__version__

    def __str__(self) -> str:
        return str(self.shard)


@dataclass(frozen=True)
class ShardDone:
    """What came of a shard. latencies_ms: per stage, of some of its pictures."""

    pictures: int
    latencies_ms: list[dict[str, float]]


def shard_file(shard_id: str) -> str:
    """Name of a shard's rows in the output."""
    return f"{SHARDS}/{shard_id}.jsonl"


def score_shard(task: ShardTask) -> ShardDone:
    """Inspect every picture of the shard, then put its rows, all at once. Doing it twice gives the same file."""
    if task.version != edge.__version__:
        raise WorkerError(
            f"{os.uname().nodename} has oddkind {edge.__version__}, the run was started with {task.version}; "
            "install the same version everywhere"
        )
    keep_freed_memory()
    inspector = _inspector(task)
    inspections = [task.batch.inspect(inspector, entry) for entry in task.shard.entries()]
    rows = "".join(f"{inspection.without_latency().to_json()}\n" for inspection in inspections)
    task.out.put(shard_file(task.shard.shard_id), rows.encode())
    latencies = [inspection.latency_ms for inspection in inspections if inspection.latency_ms]
    return ShardDone(len(inspections), latencies[:LATENCIES_KEPT])


def _inspector(task: ShardTask) -> Inspector:
    """This thread's inspector; a cached bundle that fails its check is fetched once more."""
    if task.parcel is None:
        return inspector_for(task.batch.setting)
    try:
        return inspector_for(_unpacked(task.batch.setting, task.out, task.parcel))
    except BundleError:
        bundle_parcel.forget(bundle_parcel.fetch(task.out, task.parcel))
        return inspector_for(_unpacked(task.batch.setting, task.out, task.parcel))


def _unpacked(setting: InspectorSetting, out: FileStore, parcel: str) -> InspectorSetting:
    return replace(setting, bundle=bundle_parcel.fetch(out, parcel), classes_path=None)
