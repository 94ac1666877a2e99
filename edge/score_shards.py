"""Scoring by shards: pictures or results that are not on this machine, or machines beside this one.

The output holds run.json (what rows depend on), plan.json (the shards of the listing), shards/ID.jsonl (rows of each,
put whole), bundles/ (for workers), and at the end the same results.jsonl and tables that one box writes. Starting
again after any kill plans again, finds the finished shards by name, and does the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from edge import bundle_parcel
from edge.batch import Batch
from edge.errors import OutputError, UsageError
from edge.figures import Figures
from edge.file_store import FileStore, is_local, local_path, picture_folder
from edge.listing import PictureFolder, iter_entries
from edge.pool import Crew
from edge.results_folder import KIND, RECORDS_FILE, REPORT_FILE, RUN_FILE, RunFacts, changed_fact, parse_run
from edge.score import Progress, ScoreOptions, ScoreSummary, run_facts
from edge.setting import InspectorSetting
from edge.shard_task import SHARDS, ShardTask, score_shard, shard_file
from edge.shards import MOST_PICTURES, SHARDS_AT_LEAST, Shard, cut, pictures_per_shard
from edge.table import PARQUET_FILE, TABLE_FILE, open_tables
from edge.timing import Stopwatch

PLAN_FILE = "plan.json"


def score_shards(
    setting: InspectorSetting,
    location: str,
    out: str,
    crew: Crew,
    options: ScoreOptions,
    sends_bundle: bool = False,
    on_progress: Progress = iter,
) -> ScoreSummary:
    """Score the folder at `location` into `out`, both paths or URLs, with the help of `crew`.

    sends_bundle: the crew has no folder `setting.bundle`; it is put beside the results. on_progress wraps numbers,
    one a picture. The rows are those of `score_folder`, byte for byte. UsageError for what cannot mean anything,
    OutputError for a store that fails, WorkerError for a crew that is lost; finished shards stay in every case.
    """
    store, folder = FileStore(_absolute(out)), picture_folder(location)
    facts = run_facts(setting.manifest(), setting, folder.source, options.always_type)
    run, shards = _planned(store, folder, facts, options.overwrite)
    parcel = bundle_parcel.send(store, setting, facts.classes_sha256) if sends_bundle else None
    batch = Batch(setting, folder, options.always_type)
    stopwatch = Stopwatch(crew.jobs)
    finished = store.names(SHARDS)
    todo = [ShardTask(s, batch, store, parcel) for s in shards if f"{s.shard_id}.jsonl" not in finished]
    _work(crew, todo, stopwatch, on_progress)
    timing = stopwatch.timing() if stopwatch.pictures else None
    figures, names = _merged(store, shards, options.parquet)
    for name in finished - {f"{shard.shard_id}.jsonl" for shard in shards}:
        store.remove(f"{SHARDS}/{name}")  # of files that have changed or gone
    _write_json(store, RUN_FILE, {**run, **({"last_run": timing} if timing else {})})
    return ScoreSummary(figures, stopwatch.pictures, tuple(f"{store.source}/{name}" for name in names), timing)


def refuse_early(setting: InspectorSetting, location: str, out: str, options: ScoreOptions, has_cluster: bool) -> None:
    """UsageError for what cannot work, BundleError for a bundle that cannot be used, before anything is started."""
    if options.heatmaps or options.report:
        raise UsageError(
            "--heatmaps and --report draw into a folder of this machine; leave them out with URLs or a cluster"
        )
    if options.since_last:
        raise UsageError(
            "--since-last is for a folder of this machine; with URLs or a cluster leave it out: "
            "only shards with new or changed files are scored again"
        )
    if has_cluster and any(FileStore(place).is_for_one_process for place in (location, out)):
        raise UsageError("memory:// is seen by one process only, not by a cluster; choose another URL")
    if options.parquet:
        from edge.parquet_table import arrow

        arrow()
    setting.manifest()
    folder, store = picture_folder(location), FileStore(_absolute(out))
    if f"{folder.source}/".startswith(f"{store.source}/"):
        raise UsageError(f"--out {store.source} is or contains the folder of pictures; choose another --out")


def _planned(
    store: FileStore, folder: PictureFolder, facts: RunFacts, overwrite: bool
) -> tuple[dict[str, Any], list[Shard]]:
    """What `run.json` says, and the shards of the listing as it is now; both are written before any work."""
    run = _earlier(store, facts, overwrite)
    facts_sha256 = hashlib.sha256(json.dumps(asdict(facts), sort_keys=True).encode()).hexdigest()
    mean_pictures, shards = _shards(store, folder, facts_sha256, run.get("pictures_per_shard"))
    if not shards:
        raise UsageError(f"{folder.source}: no files in it; give a folder of pictures")
    for name in (SHARDS, PLAN_FILE, RECORDS_FILE, TABLE_FILE, PARQUET_FILE, REPORT_FILE) if overwrite else ():
        store.remove(name)
    run = {**run, "kind": KIND, "facts": asdict(facts), "pictures_per_shard": mean_pictures}
    plan = {
        "facts_sha256": facts_sha256,
        "listing_sha256": hashlib.sha256("".join(shard.shard_id for shard in shards).encode()).hexdigest(),
        "pictures": sum(shard.pictures for shard in shards),
        "shards": [[shard.shard_id, shard.pictures, shard.first, shard.last] for shard in shards],
    }
    _write_json(store, RUN_FILE, run)
    _write_json(store, PLAN_FILE, plan)
    return run, shards


def _earlier(store: FileStore, facts: RunFacts, overwrite: bool) -> dict[str, Any]:
    """`run.json` of the result that goes on, empty for a new one; UsageError when it is another's."""
    content = store.read_bytes(RUN_FILE)
    run = parse_run(content) if content else None
    if run is None and not store.is_empty():
        raise UsageError(f"{store.source} exists and holds no result of oddkind score; choose another --out")
    if run is None or overwrite:
        return {}
    changed = changed_fact(run["facts"], facts, tuple(asdict(facts)))
    if changed:
        raise UsageError(
            f"{store.source} holds results with another {changed}; choose another --out, or add --overwrite"
        )
    if store.exists(RECORDS_FILE) and not store.exists(PLAN_FILE):
        raise UsageError(f"{store.source} was scored without shards; go on without a cluster, or choose another --out")
    return run


def _shards(
    store: FileStore, folder: PictureFolder, facts_sha256: str, mean_pictures: int | None
) -> tuple[int, list[Shard]]:
    """The listing, cut. mean_pictures: of an earlier plan, which stays; None at first, then the folder's size says."""
    own = store.source.removeprefix(f"{folder.source}/")
    entries = iter_entries(folder, lambda below: below == own)
    if mean_pictures is None:
        head = list(islice(entries, SHARDS_AT_LEAST * MOST_PICTURES))  # from there on it is MOST_PICTURES
        mean_pictures, entries = pictures_per_shard(len(head)), chain(head, entries)
    return mean_pictures, list(cut(entries, facts_sha256, mean_pictures))


def _work(crew: Crew, todo: Sequence[ShardTask], stopwatch: Stopwatch, on_progress: Progress) -> None:
    ticks = iter(on_progress(range(sum(task.shard.pictures for task in todo))))
    for done in crew.map(score_shard, todo):
        for number in range(done.pictures):
            stopwatch.add(done.latencies_ms[number] if number < len(done.latencies_ms) else {})
            next(ticks, None)
    next(ticks, None)  # the end of the bar


def _merged(store: FileStore, shards: Sequence[Shard], wants_parquet: bool) -> tuple[Figures, list[str]]:
    """Rows of all shards in the order of the listing, as one file and as tables."""
    figures = Figures()
    with ExitStack() as stack:
        rows = stack.enter_context(store.writer(RECORDS_FILE))
        tables = stack.enter_context(open_tables(store.writer, wants_parquet))
        for shard in shards:
            content = store.read_bytes(shard_file(shard.shard_id)) or b""
            lines = content.splitlines()
            if len(lines) != shard.pictures or not content.endswith(b"\n"):
                name = f"{store.source}/{shard_file(shard.shard_id)}"
                raise OutputError(f"{name} has {len(lines)} rows, expected {shard.pictures}; remove it and start again")
            rows.write(content)
            for record in map(json.loads, lines):
                figures.add(record)
                for table in tables:
                    table.add(record)
    return figures, [RECORDS_FILE, TABLE_FILE, *([PARQUET_FILE] if wants_parquet else [])]


def _write_json(store: FileStore, name: str, document: dict[str, Any]) -> None:
    store.put(name, (json.dumps(document, indent=2) + "\n").encode())


def _absolute(out: str) -> str:
    """A local path as workers on this machine see it; URLs as they are."""
    return str(local_path(out).resolve()) if is_local(out) else out
