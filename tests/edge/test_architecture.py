"""What the device never loads, each in a fresh process; and the names the package promises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import edge
from edge.registry import COMMANDS, STAGES

WORKSTATION = {"torch", "onnx", "timm", "efficientnet_lite_pytorch", "onnxscript", "scipy", "sklearn"}
HEAVY = WORKSTATION | {"openvino", "onnxruntime", "hnswlib"}
# Runs a command line in this process, then prints the top-level packages that were imported.
CLI = """
import json, sys
from edge.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exit:
    assert exit.code in (0, None), exit.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run_fresh(script: str, *arguments: str) -> tuple[set[str], str]:
    """Top-level packages in sys.modules of a fresh process, and what it printed before that."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *printed, modules = done.stdout.splitlines()
    return set(json.loads(modules)), "\n".join(printed)


def test_importing_edge_loads_no_runtime_and_nothing_of_the_workstation() -> None:
    modules, _ = run_fresh(
        "import json, sys, edge; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )

    assert modules & HEAVY == set()
    assert modules & {"calibration", "export"} == set()


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    modules, printed = run_fresh(CLI, "--help")

    for command in COMMANDS:
        assert f"\n  {command} " in printed
    assert modules & HEAVY == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_and_loads_nothing_heavy(command: str) -> None:
    modules, printed = run_fresh(CLI, command, "--help")

    assert "Example:" in printed
    assert f"oddkind {command}" in printed
    assert modules & HEAVY == set()


@pytest.mark.parametrize("command", ["score", "run", "station", "enrol", "classes"])
def test_help_of_a_device_command_stays_inside_edge(command: str) -> None:
    modules, _ = run_fresh(CLI, command, "--help")

    assert modules & {"calibration", "export"} == set()


def test_every_registered_command_and_stage_names_module_and_attribute() -> None:
    for target in (*COMMANDS.values(), *STAGES.values()):
        module, _, attribute = target.partition(":")
        assert module.split(".")[0] in {"edge", "calibration", "export"}
        assert attribute.isidentifier()


def test_the_public_names_are_there_and_no_others_are_promised() -> None:
    assert sorted(edge.__all__) == ["Bundle", "Inspection", "Inspector", "OddkindError", "Provenance", "read_picture"]
    for name in edge.__all__:
        assert getattr(edge, name).__module__.startswith("edge.")


def test_every_error_we_raise_is_one_family_with_a_docstring_and_an_exit_code() -> None:
    from edge import errors

    family = [value for value in vars(errors).values() if isinstance(value, type)]

    for error in family:
        assert issubclass(error, errors.OddkindError)
        assert error.__doc__
        assert error.exit_code == (2 if error is errors.UsageError else 1)
        assert error.__name__ in (errors.__doc__ or "")
