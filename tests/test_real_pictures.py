"""The whole path on real pictures: a quarter of the bottles to learn from, all test pictures to judge."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import run_oddkind

GOOD_BOTTLES = 60


def test_broken_bottles_are_told_from_good_ones_and_from_each_other(
    real_pictures: Path, pack_dir: Path, tmp_path: Path
) -> None:
    bottles, good, bundle = real_pictures / "mvtec-bottle", tmp_path / "bottle" / "good", tmp_path / "bundle"
    good.mkdir(parents=True)
    for picture in sorted((bottles / "train" / "good").iterdir())[:GOOD_BOTTLES]:
        (good / picture.name).symlink_to(picture.resolve())

    calibrated = run_oddkind(
        "calibrate", str(good), "--pack", str(pack_dir), "--out", str(bundle), "--bank-rows", "500"
    )
    evaluated = run_oddkind("evaluate", str(bundle), str(bottles), "--shots", "2", "--json")

    assert calibrated.exit_code == evaluated.exit_code == 0, calibrated.output + evaluated.output
    figures = json.loads(evaluated.stdout)
    assert figures["detection"]["image_auroc"] >= 0.99
    assert figures["few_shot"][0]["typing"]["mean"] >= 0.55  # chance is a third
