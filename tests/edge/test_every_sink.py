"""What goes wrong in one output costs neither the others nor the run; nor does a message that cannot be said."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from calling_sink import CallingSink
from conftest import child_environment
from output_records import an_inspection

from edge.errors import OutputError
from edge.outputs.every_sink import EverySink
from edge.outputs.sinks import Sink
from edge.result import Inspection
from edge.station.control import Status


class Failing(Sink):
    """Raises whatever it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, inspection: Inspection, frame_bgr: np.ndarray | None, heat_map: np.ndarray | None = None) -> None:
        raise self.error

    def came_round(self, status: Status) -> None:
        raise self.error


def test_an_error_of_ours_is_told_once_and_the_others_have_every_record() -> None:
    before, after, notes = CallingSink(), CallingSink(), []
    every = EverySink([before, Failing(RuntimeError("no idea")), after], notes.append)
    for number in range(3):
        every.write(an_inspection(number), None)
        every.came_round(Status("armed"))
    assert len(before.records) == len(after.records) == 3
    assert notes == ["output Failing: RuntimeError: no idea; it may miss records, the others do not"]


@pytest.mark.parametrize("error", [OutputError("refused"), BrokenPipeError()])
def test_an_output_that_means_to_end_the_run_does(error: Exception) -> None:
    with pytest.raises(type(error)):
        EverySink([Failing(error)], pytest.fail).write(an_inspection(0), None)


@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
def test_a_message_that_nobody_can_hear_stops_nothing(stderr: str) -> None:
    close = "sys.stderr.close(); " if stderr == "closed" else ""
    script = f"import sys; {close}from edge.notify import say; say('full'); print('works')"
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, env=child_environment(), check=False
        )
    assert done.stdout == b"works\n"
