"""All sinks of a run as one: what goes wrong in one costs neither the others nor the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.errors import OutputError
from edge.notify import Notify, one_line
from edge.outputs.sinks import HeatMap, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Status


class EverySink(Sink):
    """Hands everything to each of `sinks`, in order; whoever opened those closes them.

    OutputError and a broken pipe are a sink's way to end the run. Any other error is a fault of ours: told once for
    each sink, and the run goes on.
    """

    def __init__(self, sinks: Sequence[Sink], notify: Notify) -> None:
        self._sinks, self._notify = sinks, notify
        self._failed: set[Sink] = set()

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """One record to all."""
        self._each(lambda sink: sink.write(inspection, frame_bgr, heat_map))

    def see(self, camera: str, frame_bgr: FrameBgr) -> None:
        """One picture to all."""
        self._each(lambda sink: sink.see(camera, frame_bgr))

    def came_round(self, status: Status) -> None:
        """To all."""
        self._each(lambda sink: sink.came_round(status))

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            try:
                call(sink)
            except (OutputError, BrokenPipeError):
                raise
            except Exception as exc:
                if sink not in self._failed:
                    self._failed.add(sink)
                    self._notify(
                        f"output {type(sink).__name__}: {one_line(exc)}; it may miss records, the others do not"
                    )
