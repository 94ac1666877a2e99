"""Where the work is done: folders of this machine by this machine, anything else by shards."""

from __future__ import annotations

from contextlib import ExitStack

from edge.errors import UsageError
from edge.file_store import FileStore, is_local, local_path
from edge.pool import Crew, ProcessCrew, ThisProcess
from edge.score import Progress, ScoreOptions, ScoreSummary, score_folder, usable_jobs
from edge.setting import InspectorSetting


def score_anywhere(
    setting: InspectorSetting,
    location: str,
    out: str,
    options: ScoreOptions,
    scheduler: str | None = None,
    dask_workers: int | None = None,
    on_progress: Progress = iter,
) -> ScoreSummary:
    """Score the folder at `location` into `out`, each a path or a URL; the rows are the same whoever does it.

    scheduler: address of a Dask scheduler. dask_workers: of a cluster started here for this run.
    """
    if scheduler is not None and dask_workers is not None:
        raise UsageError("--scheduler and --dask-workers exclude each other; give one of them")
    has_cluster = scheduler is not None or dask_workers is not None
    if is_local(location) and is_local(out) and not has_cluster:
        return score_folder(setting, local_path(location), local_path(out), options, on_progress)
    from edge.score_shards import refuse_early, score_shards

    refuse_early(setting, location, out, options, has_cluster)  # before a cluster is started or waited for
    setting = setting.resolved()
    with ExitStack() as stack:
        crew: Crew = _crew_here(setting, location, out, options)
        if has_cluster:
            from edge.cluster import dask_crew

            crew = stack.enter_context(dask_crew(scheduler, dask_workers))
        return score_shards(setting, location, out, crew, options, scheduler is not None, on_progress)


def _crew_here(setting: InspectorSetting, location: str, out: str, options: ScoreOptions) -> Crew:
    """Processes of this machine, or this one alone where others could not see the files."""
    jobs = options.jobs or usable_jobs(setting)
    is_for_one = any(FileStore(place).is_for_one_process for place in (location, out))
    return ProcessCrew(jobs) if jobs > 1 and not is_for_one else ThisProcess()
