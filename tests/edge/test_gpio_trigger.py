"""Edges of a GPIO line as triggers, and what `edge.gpio` says where there is no chip.

The line is a fake at the seam of `edge.gpio`: there is no GPIO hardware here, and no gpio-sim in the kernel. The last
test uses a simulated chip where there is one.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import gpiod
import pydantic
import pytest
from edge_processes import wait_for
from gpio_lines import FakeInput

from edge.cameras.gpio_trigger import EdgeWatch, GpioTrigger
from edge.errors import CameraError, ControlError, OutputError, UsageError
from edge.gpio import Edge, open_input, open_output
from edge.station.control import Asked, Control

LINE = GpioTrigger(line="PART", edge="falling", debounce_ms=2.0, pull="up")


@pytest.fixture
def fake() -> FakeInput:
    return FakeInput()


@contextmanager
def watched(fake: FakeInput, on_edge: object) -> Iterator[tuple[EdgeWatch, list[str]]]:
    told: list[str] = []
    with EdgeWatch(LINE, on_edge, told.append, fake.open) as watch:  # type: ignore[arg-type]
        yield watch, told


def test_every_edge_is_one_trigger_in_order(fake: FakeInput) -> None:
    control, taken = Control(), list[Asked]()
    control.take_triggers("left", taken.append)
    with watched(fake, lambda at_s: control.trigger("gpio", "left", at_s=at_s)) as (watch, told):
        edges_s = [monotonic() - 0.5 + 0.005 * number for number in range(100)]
        for number, at_s in enumerate(edges_s, start=1):
            fake.edges.put(Edge(at_s, number))
        wait_for(lambda: len(taken) == 100, 5)
    assert [asked.trigger.trigger_id for asked in taken] == list(range(1, 101))
    assert {asked.trigger.by for asked in taken} == {"gpio"}
    assert [asked.at_s for asked in taken] == edges_s
    assert fake.opened == [("gpiochip0", "PART", "falling", 2.0, "up")]
    assert (told, watch.lost) == ([], 0)


def test_an_edge_becomes_a_trigger_at_once(fake: FakeInput) -> None:
    taken_s: list[float] = []
    with watched(fake, lambda at_s: taken_s.append(monotonic())):
        edges_s = []
        for number in range(1, 21):
            sleep(0.005)
            edges_s.append(monotonic())
            fake.edges.put(Edge(edges_s[-1], number))
        wait_for(lambda: len(taken_s) == 20, 5)
    assert sorted(taken - edge for taken, edge in zip(taken_s, edges_s, strict=True))[10] < 0.02


def test_edges_that_the_kernel_could_not_keep_are_told(fake: FakeInput) -> None:
    seen: list[int] = []
    with watched(fake, lambda at_s: seen.append(1)) as (watch, told):
        for number in (1, 2, 6):
            fake.edges.put(Edge(monotonic(), number))
        wait_for(lambda: len(seen) == 3, 5)
        assert watch.lost == 3
    assert told == ["trigger line gpiochip0 PART: 3 edges came faster than they could be read; lost: 3"]


def test_an_edge_that_is_refused_is_told_once(fake: FakeInput) -> None:
    calls: list[int] = []

    def refuse(at_s: float) -> None:
        calls.append(1)
        raise ControlError("no triggered camera")

    with watched(fake, refuse) as (_, told):
        for number in range(1, 4):
            fake.edges.put(Edge(monotonic(), number))
        wait_for(lambda: len(calls) == 3, 5)
    assert told == ["trigger line gpiochip0 PART: an edge was no trigger (no triggered camera)"]


def test_a_chip_that_goes_is_told_once_and_watched_again_when_it_is_back(fake: FakeInput) -> None:
    seen: list[int] = []
    with watched(fake, lambda at_s: seen.append(1)) as (_, told):
        fake.is_broken = True
        wait_for(lambda: told, 5)
        sleep(1.2)
        assert len(told) == 1 and "no triggers from it (OSError: [Errno 19] No such device)" in told[0]
        fake.is_broken = False
        wait_for(lambda: len(told) == 2, 5)
        assert told[1].endswith("the line is back")
        fake.edges.put(Edge(monotonic(), 1))
        wait_for(lambda: seen, 5)


def test_the_thread_ends_with_the_watch(fake: FakeInput) -> None:
    with watched(fake, print) as (watch, _):
        assert watch._thread.is_alive()
    assert not watch._thread.is_alive()


@pytest.mark.parametrize(
    "keys", [{"line": 3, "edge": "up"}, {"line": 3, "debounce_ms": -1.0}, {"chip": "a b", "line": 3}, {"line": ""}, {}]
)
def test_settings_that_mean_nothing_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        GpioTrigger.model_validate(keys)


# --- the real gpiod, as far as it goes without a chip


def test_a_chip_that_is_not_there_is_one_clear_line() -> None:
    says = r"^gpio /dev/gpiochip97, line 4: there is no such chip or line; 'gpiodetect' and 'gpioinfo' list them$"
    with pytest.raises(CameraError, match=says), EdgeWatch(GpioTrigger(chip="gpiochip97", line="4"), print, print):
        pass
    with pytest.raises(OutputError, match=says):
        open_output("/dev/gpiochip97", "4", "high", False)


def test_a_file_that_is_no_chip_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (str(tmp_path / "file"), "/dev/null", str(tmp_path)):
        with pytest.raises(OutputError, match=r"^gpio .*, line 4: it cannot be used \(.*\)$"):
            open_output(path, "4", "high", False)


def test_the_gpiod_that_is_installed_has_everything_we_call() -> None:
    request = gpiod.LineRequest
    inspect.signature(request.set_value).bind(None, "line", gpiod.line.Value.ACTIVE)
    inspect.signature(request.wait_edge_events).bind(None, 0.1)
    inspect.signature(request.read_edge_events).bind(None)
    inspect.signature(request.release).bind(None)
    inspect.signature(gpiod.Chip.request_lines).bind(None, {}, "consumer", 256)
    assert {"timestamp_ns", "line_seqno"} <= {field.name for field in dataclasses.fields(gpiod.EdgeEvent)}


def test_without_gpiod_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(UsageError, match=r"pip install 'oddkind\[gpio\]'"):
        open_output("gpiochip0", "4", "high", False)


@pytest.fixture
def simulated_chip() -> Iterator[tuple[str, Path]]:
    """Name of a chip of the kernel's gpio-sim, and the folder that plays its line 0."""
    config = Path("/sys/kernel/config/gpio-sim")
    if not config.is_dir():
        pytest.skip("the kernel has no gpio-sim: modprobe gpio-sim, as root, with configfs mounted")
    device = config / "oddkind-test"
    bank = device / "bank0"
    try:
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text("2")
        (device / "live").write_text("1")
    except OSError as exc:
        pytest.skip(f"gpio-sim cannot be used: {exc}")
    name = (bank / "chip_name").read_text().strip()
    played = Path("/sys/devices/platform") / (device / "dev_name").read_text().strip() / name / "sim_gpio0"
    yield name, played
    (device / "live").write_text("0")
    bank.rmdir()
    device.rmdir()


def test_a_simulated_chip_is_watched_and_set(simulated_chip: tuple[str, Path]) -> None:
    chip, played = simulated_chip
    line = open_input(chip, "0", "rising", 0.0, "as_is")
    for level in ("pull-up", "pull-down", "pull-up"):
        (played / "pull").write_text(level)
    edges = [edge for _ in range(2) for edge in line.wait(1.0)]
    line.close()
    assert [edge.number for edge in edges] == [1, 2]
    assert abs(edges[-1].at_s - monotonic()) < 5
    output = open_output(chip, "0", "low", True)
    assert (played / "value").read_text().strip() == "0"
    output.set(False)
    assert (played / "value").read_text().strip() == "1"
    output.close()
