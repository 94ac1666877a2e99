"""Where each subcommand and stage lives, as text: nothing is imported before it is asked for.

This is what keeps torch off the device, and `calibration` and `export` apart: a command that needs a
stage of another package asks for it here by name.
"""

from __future__ import annotations

import importlib
from typing import Any

COMMANDS = {
    "export": "export.cli:export",
    "pretrain": "calibration.cli_pretrain:pretrain",
    "calibrate": "calibration.cli_calibrate:calibrate",
    "enrol": "edge.cli_classes:enrol",
    "classes": "edge.cli_classes:classes",
    "score": "edge.cli_score:score",
    "run": "edge.cli_run:run",
    "station": "edge.cli_station:station",
    "evaluate": "calibration.cli_evaluate:evaluate",
    "bench": "edge.cli_bench:bench",
    "demo": "calibration.cli_demo:demo",
}

STAGES = {
    # (bundle_folder, manifest, held-out good keys, pseudo-defect keys) -> IndexFacts
    "index_bank": "export.bank_index:index_bank",
    # (torch module, example inputs, names, pack folder) -> graphs of the relation head and their parity
    "export_head": "export.relation_head:export_head",
}


def load_stage(name: str) -> Any:
    """The callable registered under `name` in STAGES."""
    return load(STAGES[name])


def load(target: str) -> Any:
    """Import `package.module:attribute` and return the attribute."""
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)
