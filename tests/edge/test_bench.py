import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.backend import installed_backends
from edge.bench import Options, RuntimeReport, bench, bundle_sizes, plan_jobs, run_in_fresh_process
from edge.bench_report import to_text
from edge.bench_timing import FrameTimings, Percentiles, other_searches, time_frames, time_search
from edge.bench_worker import FIRST_VERDICT, Job, generate_frame
from edge.bundle import Bundle
from edge.cli import main
from edge.cli_bench import parse_frame_size
from edge.errors import BackendError, PictureError, UsageError
from edge.inspector import Inspector
from edge.machine import cpu_name, machine_facts, peak_rss_mb, usable_cores
from edge.manifest import MANIFEST_NAME
from edge.pictures import write_picture
from edge.text_table import aligned

SMALL = Options(frames=3, frame_wh=(96, 64))
STAGES = ["preprocess", "backbone", "memory_bank", "map", "regions", "typing", "record"]


@pytest.fixture(scope="module")
def bundle(bundle_dir) -> Bundle:
    return Bundle.open(bundle_dir)


@pytest.fixture(scope="module")
def report(bundle_dir):
    """One bench with everything in it; the tests below read it."""
    return bench(bundle_dir, SMALL)


def own_job(opened: Bundle, **changes: object) -> Job:
    return replace(plan_jobs(opened, SMALL)[0], **changes)


# what is timed


def test_own_runtime_comes_first_and_no_runtime_twice(bundle):
    jobs = plan_jobs(bundle, SMALL)
    runtimes = [(j.backend, j.precision, j.threads) for j in jobs]
    assert runtimes[0] == (bundle.manifest.calibrated_backend, bundle.manifest.calibrated_precision, 1)
    assert len(set(runtimes)) == len(runtimes) == len(installed_backends()) * 2 * len({1, usable_cores()})
    assert [j.with_search for j in jobs] == [True] + [False] * (len(jobs) - 1)


def test_a_graph_the_bundle_lacks_is_not_timed(bundle):
    own = f"{bundle.manifest.calibrated_backend}-{bundle.manifest.calibrated_precision}"
    lean = replace(bundle, manifest=bundle.manifest.model_copy(update={"graphs": {own: "graph"}}))
    assert {(j.backend, j.precision) for j in plan_jobs(lean, SMALL)} == {tuple(own.split("-"))}


def test_generated_frame_is_the_same_every_time():
    frame = generate_frame((96, 64))
    assert frame.shape == (64, 96, 3) and frame.dtype == np.uint8
    assert np.array_equal(frame, generate_frame((96, 64)))
    assert frame[32, 32].tolist() == [30, 40, 50]  # the blot
    assert frame.std() > 5


def test_percentiles_are_those_of_the_latencies():
    assert Percentiles.of([float(n) for n in range(1, 102)]) == Percentiles(p50=51.0, p95=96.0)


def test_stages_keep_the_order_of_work():
    timings = FrameTimings()
    for stage in ("first", "second", "first"):
        timings.stages[stage].append(2.0)
    assert timings.stage_percentiles() == {"first": Percentiles(2.0, 2.0), "second": Percentiles(2.0, 2.0)}
    assert list(timings.stage_percentiles()) == ["first", "second"]


def test_a_frame_is_timed_as_good_and_as_rejected_whatever_it_shows(bundle_dir):
    inspector = Inspector.load(bundle_dir)
    figures = time_frames(inspector, generate_frame((96, 64)), frames=3)
    assert list(figures.good_stages_ms) == list(figures.rejected_stages_ms) == STAGES
    assert figures.regions_typed >= 1
    assert figures.classes >= 5  # the bench's own, or those enrolled in the bundle
    assert figures.good_ratio == round(figures.good_frame_ms.p50 / figures.bare_backbone_ms.p50, 3)


def test_every_search_of_the_bundle_is_timed_on_its_own_bank(bundle_dir, bundle):
    inspector = Inspector.load(bundle_dir)
    search = time_search(inspector, generate_frame((96, 64)))
    assert search.queries == math.prod(bundle.manifest.embedding.grid_hw)
    assert set(search.others) == {"int8", "projected", "hnsw"}
    assert search.exact_ms.p50 > 0
    for found in search.others.values():
        assert found.ms.p50 > 0
        assert 0 < found.recall_at_1 <= 1
        assert 0 <= found.excess < 0.05


def test_a_bundle_has_the_searches_that_its_manifest_has_facts_of(bundle):
    facts = bundle.manifest.memory_bank.model_copy(update={"index": None, "projection": None})
    plain = replace(bundle, manifest=bundle.manifest.model_copy(update={"memory_bank": facts}))
    assert list(other_searches(plain, plain.load_memory_bank())) == ["int8"]


# the report


def test_every_runtime_here_is_measured(report, bundle):
    assert len(report.runtimes) == len(plan_jobs(bundle, SMALL))
    for runtime in report.runtimes:
        assert runtime.error is None
        latency = runtime.figures["latency"]
        figures = [runtime.start_up_s, runtime.figures["peak_rss_mb"], latency["good_ratio"], latency["rejected_ratio"]]
        figures += [latency[f"{frame}_ms"]["p50"] for frame in ("bare_backbone", "good_frame", "rejected_frame")]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)


def test_sizes_are_those_on_disk(report, bundle_dir):
    assert report.sizes_bytes[MANIFEST_NAME] == (bundle_dir / MANIFEST_NAME).stat().st_size
    assert set(report.sizes_bytes) >= set(report.bundle.manifest.files)
    assert report.to_document()["total_bytes"] == sum(report.sizes_bytes.values())


def test_enrolled_classes_count_towards_the_size(bundle_dir, tmp_path):
    copy = shutil.copytree(bundle_dir, tmp_path / "bundle")
    (copy / "classes.npz").write_bytes(b"12345")
    assert bundle_sizes(Bundle.open(copy))["classes.npz"] == 5


def test_report_is_plain_json(report):
    document = json.loads(json.dumps(report.to_document(), allow_nan=False))
    assert document["frame"] == {"picture": None, "size_wh": [96, 64]}
    assert document["runtimes"][0]["figures"]["search"]["queries"] > 0
    assert document["machine"]["cores"] == usable_cores()
    assert document["not_installed"] == sorted({"onnxruntime", "openvino"} - set(installed_backends()))


def test_table_names_stages_runtimes_and_files(report):
    text = to_text(report)
    names = [*STAGES, "whole / bare", "peak RSS", "recall@1", MANIFEST_NAME, *installed_backends()]
    assert all(name in text for name in names)
    assert max(map(len, text.splitlines())) < 140


def test_a_runtime_that_fails_is_a_line_not_an_end(report):
    broken = replace(report.runtimes[1], figures=None, start_up_s=None, error="no such instruction")
    text = to_text(replace(report, runtimes=(report.runtimes[0], broken)))
    assert "failed" in text and "no such instruction" in text


# the processes


def test_a_workers_own_complaint_becomes_the_error(bundle, tmp_path):
    runtime = run_in_fresh_process(own_job(bundle, bundle=str(tmp_path)))
    assert runtime.figures is None and runtime.start_up_s is None
    assert "is not a bundle" in runtime.error


def test_a_worker_that_dies_leaves_its_last_words(bundle):
    runtime = run_in_fresh_process(own_job(bundle, frames="many"))
    assert runtime.figures is None
    assert runtime.error.startswith("the process ended with 1: TypeError")


def test_the_default_runtime_must_run(bundle_dir, monkeypatch):
    def fail(job: Job) -> RuntimeReport:
        return RuntimeReport(job.backend, job.precision, job.threads, None, None, "gone")

    monkeypatch.setattr("edge.bench.run_in_fresh_process", fail)
    with pytest.raises(BackendError, match="its own runtime cannot be timed: gone"):
        bench(bundle_dir, SMALL)


def test_worker_says_when_the_first_verdict_is_out(bundle):
    command = [sys.executable, "-m", "edge.bench_worker", json.dumps(asdict(own_job(bundle)))]
    first, last = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert first == FIRST_VERDICT
    assert set(json.loads(last)) == {"backend_version", "peak_rss_mb", "latency", "search"}


# the machine


def test_peak_memory_is_this_process_alone():
    """The kernel hands a parent's `ru_maxrss` on to its child: the figure must not."""
    ballast = np.ones(40_000_000)  # 320 MB here
    command = [sys.executable, "-c", "from edge.machine import peak_rss_mb; print(peak_rss_mb())"]
    childs_mb = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 1 < childs_mb < 100
    assert peak_rss_mb() > ballast.nbytes / 2**20


def test_machine_is_named():
    facts = machine_facts()
    assert facts["cpu"] == cpu_name() != ""
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert {"oddkind", "numpy", "onnxruntime", "hnswlib"} <= set(facts["versions"])


def test_columns_line_up():
    assert aligned([["stage", "ms"], ["backbone", "4.7"], ["total"]]) == "  stage      ms\n  backbone  4.7\n  total"
    assert aligned([]) == ""


# the command


def run(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_command_prints_json_for_a_picture(bundle_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.bench.PRECISIONS", ("int8",))
    monkeypatch.setattr("edge.bench.usable_cores", lambda: 1)
    monkeypatch.setattr("edge.bench.installed_backends", list)
    write_picture(tmp_path / "part.png", generate_frame((120, 80)))
    result = run(bundle_dir, "--picture", tmp_path / "part.png", "--frames", "2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["frame"] == {"picture": str(tmp_path / "part.png"), "size_wh": [120, 80]}
    assert len(document["runtimes"]) == 1


@pytest.mark.parametrize("text", ["", "1280", "1280x", "x720", "12.5x7", "-3x4", "axb", "1280 x 720", "1280x720x3"])
def test_frame_size_must_be_two_numbers(text):
    with pytest.raises(UsageError, match="such as 1280x720"):
        parse_frame_size(text)


def test_frame_size_may_have_a_capital_x():
    assert parse_frame_size("640X480") == (640, 480)


@pytest.mark.parametrize("frame_wh", [(4, 720), (0, 0), (999_999, 999_999)])
def test_impossible_frames_are_refused(bundle_dir, frame_wh):
    with pytest.raises(UsageError, match="--frame-size"):
        bench(bundle_dir, Options(frame_wh=frame_wh))


def test_a_picture_that_is_none_is_refused_before_timing(bundle_dir, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(PictureError, match="not a picture"):
        bench(bundle_dir, Options(picture=tmp_path / "text.png"))


@pytest.mark.parametrize("arguments", [["--frames", "0"], ["--frames", "many"], ["--frame-size", "huge"]])
def test_wrong_usage_ends_with_2(bundle_dir, arguments):
    assert run(bundle_dir, *arguments).exit_code == 2


def test_one_clear_line_for_a_folder_that_is_no_bundle(tmp_path):
    result = run(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("oddkind: ") and "is not a bundle" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_bench_needs_no_torch(bundle):
    code = (
        "import sys; from edge import bench, bench_report, bench_worker, cli_bench; "
        "assert 'torch' not in sys.modules and 'calibration' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
