"""The whole path once, with the real commands: from good pictures to a report with named defects."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from calibration.demo_data import DemoFolder, LinePlan, choose_supports, link_line, link_unseen, plan_line, write_video
from calibration.demo_figures import DemoFigures, count
from calibration.demo_line import write_line
from edge.errors import CalibrationError, UsageError
from edge.manifest import PackManifest, read_manifest

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much of everything: pictures rendered, pseudo-classes and episodes trained, draws, frames filmed."""

    good: int
    held_out_good: int
    per_kind: int
    classes: int
    episodes: int
    draws: int
    frames: int


FULL = Size(good=80, held_out_good=20, per_kind=10, classes=80, episodes=500, draws=10, frames=30)
QUICK = Size(good=16, held_out_good=4, per_kind=4, classes=20, episodes=50, draws=3, frames=12)


@dataclass(frozen=True)
class Demo:
    """What the user asked for. good and defects: both or neither. pack: made earlier, so nothing needs torch."""

    out: Path
    good: Path | None = None
    defects: Path | None = None
    pack: Path | None = None
    quick: bool = False

    @property
    def size(self) -> Size:
        """How much of everything."""
        return QUICK if self.quick else FULL


def run_demo(demo: Demo, say: Say) -> DemoFigures:
    """Everything from pictures to figures; OddkindError when a command fails. Replaces an earlier demo at `out`."""
    started_s = monotonic()
    plan = _checked(demo)  # before an earlier demo is removed
    folder = DemoFolder(demo.out)
    if folder.start_afresh():
        say(f"{demo.out} holds an earlier demo; it is made anew\n")
    _pictures(demo, folder, plan, say)
    _workstation(demo, folder, say)
    _enrol(folder, say)
    _device(demo, folder, say)
    figures = count(folder.results / "results.jsonl", folder.run_records)
    took_s = round(monotonic() - started_s, 1)
    folder.marker.write_text(json.dumps({"took_s": took_s, **figures.to_document()}, indent=2) + "\n", encoding="utf-8")
    say(f"# The figures\n\n{figures}\n")
    say(f"Took {took_s:.0f} s. Look at {folder.results / 'report.html'} in a browser; all of it lies in {demo.out}/.")
    return figures


def oddkind(say: Say, *arguments: str | Path, may_end_with: tuple[int, ...] = (0,)) -> None:
    """Run `oddkind ARGUMENTS` in this process, shown as the user would type it; CalibrationError when it fails."""
    from edge.cli import main

    words = [str(argument) for argument in arguments]
    say(f"$ oddkind {shlex.join(words)}")
    started_s = monotonic()
    code = main(words, standalone_mode=False) or 0
    took_s = monotonic() - started_s
    say(f"({took_s:.0f} s)\n" if took_s >= 1 else "")
    if code not in may_end_with:
        raise CalibrationError(f"the demo stopped: `oddkind {words[0]}` ended with {code}; its message stands above")


def _checked(demo: Demo) -> LinePlan | None:
    """Where the user's own pictures go, None for the rendered line; an OddkindError when the demo cannot be run."""
    if demo.pack is not None:
        read_manifest(demo.pack, PackManifest)
    elif importlib.util.find_spec("torch") is None:
        raise UsageError(
            "the demo exports a model pack, which needs torch; pip install 'oddkind[train]', "
            "or give --pack PACK made elsewhere"
        )
    if demo.good is None and demo.defects is None:
        return None
    if demo.good is None or demo.defects is None:
        raise UsageError("--good and --defects belong together; give both, or neither for the rendered product line")
    for mine in (demo.good, demo.defects):
        if demo.out.resolve().is_relative_to(mine.resolve()):
            raise UsageError(f"--out {demo.out} lies in the pictures at {mine}; choose another --out")
    return plan_line(demo.good, demo.defects)


def _pictures(demo: Demo, folder: DemoFolder, plan: LinePlan | None, say: Say) -> None:
    if plan is not None:
        say(f"# Your pictures: good from {demo.good}, defects from {demo.defects}\n")
        link_line(folder.line, plan)
        return
    size = demo.size
    say(f"# A rendered product line: {size.good} good parts, {size.per_kind} bad ones of each of five kinds\n")
    write_line(folder.line, size.good, size.per_kind, size.held_out_good)


def _workstation(demo: Demo, folder: DemoFolder, say: Say) -> None:
    pack = demo.pack or folder.pack
    if demo.pack is None:
        say("# On the workstation, once: a backbone as INT8 graphs, and a head that learns to compare defects")
        oddkind(say, "export", "--out", pack, "--good", folder.good)
        counts = ("--classes", str(demo.size.classes), "--episodes", str(demo.size.episodes))
        oddkind(say, "pretrain", "--pack", pack, "--good", folder.good, *counts)
    say("# Per product, from good pictures alone: what is normal, and where the threshold lies")
    oddkind(say, "calibrate", folder.good, "--pack", pack, "--out", folder.bundle)


def _enrol(folder: DemoFolder, say: Say) -> None:
    say("# On the device: two rejected parts of each kind give it a name")
    supports = choose_supports(folder.bundle, folder.line)
    for s in supports:
        force = () if s.all_rejected else ("--force",)
        oddkind(say, "enrol", folder.bundle, s.kind, *s.pictures, *force)
    link_unseen(folder.unseen, folder.line, [path for s in supports for path in s.pictures])


def _device(demo: Demo, folder: DemoFolder, say: Say) -> None:
    say("# The camera loop, on a film of parts it has not seen")
    frames = write_video(folder.video, folder.unseen, demo.size.frames)
    records = ("--out", folder.run_records, "--max-frames", str(frames))
    oddkind(say, "run", folder.bundle, "--source", folder.video, *records)
    some_unreadable = (0, 1)  # files among the user's pictures that are none
    say("# A folder of pictures, with a report")
    results = ("--out", folder.results, "--heatmaps", "--report")
    oddkind(say, "score", folder.bundle, folder.unseen, *results, may_end_with=some_unreadable)
    say("# How good is it? Random draws of one and two supports, all other pictures as questions")
    draws = ("--shots", "1,2", "--draws", str(demo.size.draws), "--out", folder.evaluation)
    oddkind(say, "evaluate", folder.bundle, folder.line, *draws, may_end_with=some_unreadable)
