"""Scoring by shards gives the rows of a single box, on every file system, however often it is stopped."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MANY, run_oddkind
from s3_server import fresh, upload

from edge import cluster
from edge import score_anywhere as anywhere
from edge.backend_memory import Choice
from edge.errors import OutputError, UsageError
from edge.file_store import FileStore
from edge.inspector import Inspector
from edge.pictures import read_picture
from edge.pool import ProcessCrew, ThisProcess
from edge.result import Provenance
from edge.score import ScoreOptions, ScoreSummary
from edge.score_shards import score_shards
from edge.setting import InspectorSetting
from edge.shard_task import SHARDS, ShardTask, score_shard

RESULTS = ("results.jsonl", "results.csv", "results.parquet")
FEW = 70


@pytest.fixture
def few(tmp_path: Path, good_dir: Path, defects_dir: Path) -> Path:
    """FEW pictures of its own, to change."""
    sources = [sorted(good_dir.rglob("*.png"))[0], sorted(defects_dir.rglob("*.png"))[0]]
    (tmp_path / "few").mkdir()
    for number in range(FEW):
        shutil.copy(sources[number % 2], tmp_path / "few" / f"{number:02}.png")
    return tmp_path / "few"


@pytest.fixture
def setting(bundle_dir: Path) -> InspectorSetting:
    return InspectorSetting(bundle_dir)


@pytest.fixture
def shard_it(setting: InspectorSetting) -> Callable[..., ScoreSummary]:
    """Score a place into another by shards, in this process."""

    def score(folder: object, out: object, options: ScoreOptions | None = None) -> ScoreSummary:
        return score_shards(setting, str(folder), str(out), ThisProcess(), options or ScoreOptions())

    return score


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows_of(store: FileStore) -> dict[str, Any]:
    """Path -> row, less what says where and when the picture lay."""
    rows = map(json.loads, (store.read_bytes("results.jsonl") or b"").splitlines())
    return {row["path"]: {k: v for k, v in row.items() if k not in ("source", "captured_at")} for row in rows}


def test_shards_in_processes_give_the_bytes_of_one_box(
    setting: InspectorSetting, many: Path, one_core: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = score_shards(setting, str(many), str(out), ProcessCrew(2), ScoreOptions(parquet=True))
    for name in RESULTS:
        assert (out / name).read_bytes() == (one_core / name).read_bytes(), name
    assert (summary.figures.pictures, summary.scored_now, summary.errors) == (MANY + 1, MANY + 1, 1)
    plan, run = (json.loads((out / name).read_text()) for name in ("plan.json", "run.json"))
    assert sum(pictures for _, pictures, _, _ in plan["shards"]) == plan["pictures"] == MANY + 1
    assert {f"{shard[0]}.jsonl" for shard in plan["shards"]} == names_in(out / SHARDS)
    assert run["facts"] == json.loads((one_core / "run.json").read_text())["facts"]
    assert run["last_run"]["jobs"] == 2 and run["last_run"]["latency_p50_ms"] > 0


@pytest.mark.usefixtures("s3")
def test_pictures_and_results_on_s3_and_in_memory_are_those_of_a_folder(
    bundle_dir: Path, few: Path, tmp_path: Path
) -> None:
    store = FileStore(fresh("s3"))
    upload(few, f"{store.location}/lot")
    done = run_oddkind("score", str(bundle_dir), str(few), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    expected = rows_of(FileStore(str(tmp_path / "out")))
    memory = f"memory://{uuid.uuid4().hex}"
    places = [
        (f"{store.location}/lot", f"{store.location}/results", "--jobs=2"),
        (f"{store.location}/lot", f"file://{tmp_path}/from-s3", "--jobs=1"),
        (str(few), memory),
    ]
    for location, out, *jobs in places:
        done = run_oddkind("score", str(bundle_dir), location, "--out", out, "--json", "--parquet", *jobs)
        assert done.exit_code == 0, done.output
        rows = rows_of(FileStore(out))
        assert list(rows) == list(expected) and len(rows) == FEW
        for path, row in rows.items():
            assert {**row, "result_id": 0} == {**expected[path], "result_id": 0}
        assert json.loads(done.stdout)["files"] == [f"{out.removeprefix('file://')}/{name}" for name in RESULTS]
        assert FileStore(out).names("") >= {*RESULTS, "run.json", "plan.json"}


def test_a_run_that_stopped_anywhere_goes_on_with_what_is_missing(
    setting: InspectorSetting, many: Path, one_core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before a shard is put, whichever one: the next run does that one and those after it, no other."""
    out = tmp_path / "out"
    done: list[str] = []

    class Stops(ThisProcess):
        def map(self, function: Any, tasks: Any) -> Iterator[Any]:
            for number, task in enumerate(tasks):
                if number == 3:
                    raise KeyboardInterrupt
                done.append(task.shard.shard_id)
                yield function(task)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            score_shards(setting, str(many), str(out), Stops(), ScoreOptions())
        assert not (out / "results.jsonl").exists()
    summary = score_shards(setting, str(many), str(out), ThisProcess(), ScoreOptions(parquet=True))
    plan = json.loads((out / "plan.json").read_text())
    assert len(done) == len(set(done)) == 6
    assert summary.scored_now == MANY + 1 - sum(pictures for name, pictures, *_ in plan["shards"] if name in done)
    assert (out / "results.jsonl").read_bytes() == (one_core / "results.jsonl").read_bytes()


def test_a_shard_done_twice_is_the_same_file(setting: InspectorSetting, few: Path, tmp_path: Path) -> None:
    tasks: list[ShardTask] = []

    class Keeps(ThisProcess):
        def map(self, function: Any, todo: Any) -> Iterator[Any]:
            tasks.extend(todo)
            return map(function, tasks)

    out = tmp_path / "out"
    score_shards(setting, str(few), str(out), Keeps(), ScoreOptions())
    before = {path.name: path.read_bytes() for path in (out / SHARDS).iterdir()}
    score_shard(tasks[0])
    assert before == {path.name: path.read_bytes() for path in (out / SHARDS).iterdir()}


def test_files_that_come_change_and_go_cost_their_own_shards(
    shard_it: Callable[..., ScoreSummary], few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shard_it(few, out)
    assert shard_it(few, out).scored_now == 0
    (few / "03.png").unlink()
    (few / "05.png").write_bytes(b"no picture any more")
    shutil.copy(few / "00.png", few / "00 new.png")

    again = shard_it(few, out)

    assert 0 < again.scored_now < FEW
    rows = rows_of(FileStore(str(out)))
    assert sorted(rows) == sorted(path.name for path in few.iterdir())
    assert rows["05.png"]["verdict"] == "no_verdict" and again.errors == 1
    plan = json.loads((out / "plan.json").read_text())
    assert {f"{shard[0]}.jsonl" for shard in plan["shards"]} == names_in(out / SHARDS)
    shard_it(few, tmp_path / "afresh")
    assert (out / "results.jsonl").read_bytes() == (tmp_path / "afresh" / "results.jsonl").read_bytes()


def test_overwrite_drops_every_shard_and_other_facts_are_refused(
    shard_it: Callable[..., ScoreSummary], few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shard_it(few, out, ScoreOptions(parquet=True))
    with pytest.raises(UsageError, match="another always_type"):
        shard_it(few, out, ScoreOptions(always_type=True))
    again = shard_it(few, out, ScoreOptions(overwrite=True))
    assert again.scored_now == FEW and not (out / "results.parquet").exists()


def test_a_damaged_shard_is_named_and_no_result_is_made_of_it(
    shard_it: Callable[..., ScoreSummary], few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shard_it(few, out)
    before = (out / "results.jsonl").read_bytes()
    path = sorted((out / SHARDS).iterdir())[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OutputError, match=rf"{path.name} has \d+ rows, expected \d+; remove it and start again"):
        shard_it(few, out)
    assert (out / "results.jsonl").read_bytes() == before
    path.unlink()
    shard_it(few, out)
    assert (out / "results.jsonl").read_bytes() == before


def test_results_of_one_kind_do_not_go_on_as_the_other(
    bundle_dir: Path, shard_it: Callable[..., ScoreSummary], few: Path, tmp_path: Path
) -> None:
    assert run_oddkind("score", str(bundle_dir), str(few), "--out", str(tmp_path / "plain")).exit_code == 0
    with pytest.raises(UsageError, match="was scored without shards"):
        shard_it(few, tmp_path / "plain")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "holiday.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no result of oddkind score"):
        shard_it(few, tmp_path / "taken")
    assert names_in(tmp_path / "taken") == {"holiday.txt"}


def test_results_inside_the_folder_of_pictures_are_not_scored(shard_it: Callable[..., ScoreSummary], few: Path) -> None:
    shard_it(few, few / "results")
    assert shard_it(few, few / "results").scored_now == 0
    assert len(rows_of(FileStore(str(few / "results")))) == FEW


def test_auto_is_decided_once_and_handed_out_decided(
    monkeypatch: pytest.MonkeyPatch, bundle_dir: Path, few: Path, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def choose(bundle: Any, precision: Any, threads: int) -> Choice:
        asked.append((precision, threads))
        return Choice("onnxruntime", "fp32")

    loaded: list[Any] = []
    real = Inspector.load.__func__  # type: ignore[attr-defined]

    def load(cls: Any, folder: Path, backend: Any, precision: Any, *rest: Any) -> Inspector:
        loaded.append((backend, precision))
        inspector: Inspector = real(cls, folder, backend, precision, *rest)
        return inspector

    monkeypatch.setattr("edge.auto_backend.choose_runtime", choose)
    monkeypatch.setattr(Inspector, "load", classmethod(load))
    setting = InspectorSetting(bundle_dir, backend="auto")
    for out in (str(tmp_path / "out"), f"memory://{uuid.uuid4().hex}"):
        asked.clear(), loaded.clear()
        anywhere.score_anywhere(setting, str(few), out, ScoreOptions(jobs=1))
        assert asked == [(None, 1)] and loaded == [("onnxruntime", "fp32")]
        facts = json.loads(FileStore(out).read_bytes("run.json") or b"")["facts"]
        assert (facts["backend"], facts["precision"]) == ("onnxruntime", "fp32")


def test_processes_get_the_runtime_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("edge.auto_backend.choose_runtime", lambda *_: Choice("onnxruntime", "fp32"))
    out = tmp_path / "out"
    summary = anywhere.score_anywhere(InspectorSetting(bundle_dir, "auto"), str(many), str(out), ScoreOptions(jobs=2))
    assert summary.timing and summary.timing["jobs"] == 2
    row, of_int8 = (json.loads((folder / "results.jsonl").read_bytes().splitlines()[0]) for folder in (out, one_core))
    inspection = Inspector.load(bundle_dir, "onnxruntime", "fp32").inspect(
        read_picture(many / row["path"]), Provenance("test", 0, row["captured_at"])
    )
    assert row["anomaly_score"] == pytest.approx(inspection.anomaly_score, abs=1e-5)
    assert row["anomaly_score"] != pytest.approx(of_int8["anomaly_score"], abs=1e-3)


CASES = {
    "no such scheme": ("{few} --out ftpx://host/out", 2, "ftpx://host/out: expected a path, or a URL such as"),
    "no such folder in memory": ("memory://gone/x --out {new}", 2, "memory://gone/x: no such folder"),
    "no pictures": ("{empty} --out memory://none-of-it", 2, "no files in it; give a folder of pictures"),
    "heat-maps past this machine": ("{few} --out memory://x --heatmaps", 2, "leave them out with URLs or a cluster"),
    "a report past this machine": ("{few} --out memory://x --report", 2, "leave them out with URLs or a cluster"),
    "since-last past this machine": ("{few} --out memory://x --since-last", 2, "--since-last is for a folder of this"),
    "memory for a cluster": ("{few} --out memory://x --dask-workers 2", 2, "seen by one process only"),
    "both kinds of cluster": ("{few} --out {new} --dask-workers 2 --scheduler tcp://a:1", 2, "exclude each other"),
    "no Dask worker": ("{few} --out {new} --dask-workers 0", 2, "0 is not in the range x>=1"),
    "jobs below nothing": ("{few} --out {new} --jobs -1", 2, "-1 is not in the range x>=0"),
    "jobs in words": ("{few} --out {new} --jobs all", 2, "'all' is not a valid integer"),
    "a scheduler without a port": ("{few} --out {new} --scheduler host", 2, "expected an address such as tcp://"),
    "a scheduler in words": ("{few} --out {new} --scheduler tcp://host:many", 2, "expected an address such as tcp://"),
    "a scheduler that is not there": ("{few} --out {new} --scheduler tcp://127.0.0.1:9", 1, "no Dask scheduler at"),
    "results over the pictures": ("{few} --out {few} --dask-workers 1", 2, "is or contains the folder of pictures"),
    "a cluster for no folder": ("{new} --out {new}-2 --dask-workers 1", 2, "no such folder"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, name: str, bundle_dir: Path, few: Path, tmp_path: Path
) -> None:
    arguments, exit_code, says = CASES[name]
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 0.5)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    line = arguments.format(few=few, empty=tmp_path / "empty", new=tmp_path / "new")
    done = run_oddkind("score", str(bundle_dir), *line.split())
    assert (done.exit_code, done.stdout) == (exit_code, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert len(lines) == 1 and says in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [
        ("pyarrow", ["--parquet"], "oddkind[parquet]"),
        ("distributed", ["--dask-workers", "2"], "oddkind[cluster]"),
        ("distributed", ["--scheduler", "tcp://127.0.0.1:8786"], "oddkind[cluster]"),
    ],
)
def test_an_extra_that_is_missing_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
    bundle_dir: Path,
    few: Path,
    tmp_path: Path,
    package: str,
    options: list[str],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = run_oddkind("score", str(bundle_dir), str(few), "--out", str(tmp_path / "out"), *options)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"pip install '{extra}'" in done.stderr and not (tmp_path / "out").exists()
