"""A station with one triggered camera behind a Modbus output: a real loop and inspector on pictures.

As a program it is a station to be killed: BUNDLE PICTURES RECORDS PORT.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from pathlib import Path
from time import sleep
from types import TracebackType

from edge.cameras.frames import Camera, Due, Frame, Frames, NoFrame
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.modbus import ModbusOutput
from edge.outputs.sinks import HeatMap, JsonLinesSink, Sink
from edge.pictures import FrameBgr, read_picture
from edge.result import Inspection, Provenance, utc_now
from edge.station.control import Asked, Control

DEADLINE_S, QUEUE = 10.0, 2  # beside those that the loop has taken already: FRAMES_AHEAD, and two in hand


class PictureOnTrigger(Camera):
    """Trigger n gives picture n, in turn; more than QUEUE triggers that wait are overruns, in order."""

    is_triggered = True

    def __init__(self, pictures: list[Path], control: Control, name: str = "camera") -> None:
        self.name, self._pictures = name, [read_picture(path) for path in pictures]
        self._asked: deque[tuple[Asked, bool]] = deque()
        self._changed = threading.Condition()
        control.take_triggers(name, self._take)

    def frames(self, stop: threading.Event) -> Frames:
        """One item for each trigger."""
        while not stop.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: self._asked, 0.05):
                    continue
                asked, fits = self._asked.popleft()
            trigger, due = asked.trigger, Due(asked.at_s, asked.at_s + DEADLINE_S)
            provenance = Provenance(self.name, trigger.trigger_id - 1, utc_now(), trigger=trigger)
            if fits:
                yield Frame(self._pictures[trigger.trigger_id % len(self._pictures)], provenance, due=due)
            else:
                yield NoFrame(provenance, f"overrun: {QUEUE} triggers waited already", due=due)

    def _take(self, asked: Asked) -> None:
        with self._changed:
            self._asked.append((asked, sum(fits for _, fits in self._asked) < QUEUE))
            self._changed.notify_all()


class Kept(Sink):
    """Every record; the loop hangs in it for as long as it is told to."""

    def __init__(self) -> None:
        self.inspections: list[Inspection] = []
        self.hang_s = 0.0

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        self.inspections.append(inspection)
        hang_s, self.hang_s = self.hang_s, 0.0
        sleep(hang_s)


class PlcStation:
    """The station in a thread of this process."""

    def __init__(self, inspector: Inspector, pictures: list[Path], output: ModbusOutput, cameras: int = 1) -> None:
        self.control, self.kept, self.notices = Control(), Kept(), list[str]()
        self.port = output.port
        names = ["camera", "second", "third"][:cameras]
        self._cameras = [PictureOnTrigger(pictures, self.control, name) for name in names]
        self.sink = output.open(names, self.notices.append, self.control)
        self._stop = threading.Event()
        arguments = (self._cameras, inspector, [self.kept, self.sink], None, self._stop, False, self.notices.append)
        self._thread = threading.Thread(target=run, args=arguments, kwargs={"control": self.control})

    def by_trigger(self) -> dict[int, Inspection]:
        """Records, by the number of their trigger; of one camera."""
        kept = {i.provenance.trigger.trigger_id: i for i in self.kept.inspections if i.provenance.trigger}
        assert len(kept) == len(self.kept.inspections)
        return kept

    def __enter__(self) -> PlcStation:
        self._thread.start()
        return self

    def end_loop(self) -> None:
        """The loop ends; the server goes on."""
        self._stop.set()
        self._thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_loop()
        self.sink.close()


def main(bundle: str, pictures: str, records: str, port: str) -> None:
    """Run until killed."""
    control = Control()
    camera = PictureOnTrigger(sorted(Path(pictures).rglob("*.png")), control)
    inspector = Inspector.load(Path(bundle))
    with ModbusOutput(port=int(port)).open(["camera"], print, control) as sink, JsonLinesSink(Path(records)) as lines:
        run([camera], inspector, [lines, sink], control=control)


if __name__ == "__main__":
    main(*sys.argv[1:])
