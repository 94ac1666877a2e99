"""The live page in a real browser, before a real station: what it shows, what it does, and who can use it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pydantic
import pytest
from conftest import child_environment
from mjpeg_server import MjpegServer
from mosquitto import free_port
from output_records import FRAME_BGR, an_inspection
from page_browser import Page, chromium
from page_client import ask
from selenium.webdriver.common.keys import Keys

from edge.inspector import Inspector
from edge.outputs.http_output import HttpOutput, HttpSink
from edge.pictures import FrameBgr, read_picture
from edge.result import Trigger
from edge.station.control import Control
from edge.station.master_parts import MasterParts, MasterPartSettings

NAMED = {"button", "link", "textbox", "combobox", "checkbox", "radio", "tab", "tablist", "img", "image", "dialog"}
TOKEN = "a-token-of-some-length"


@dataclass
class Station:
    """A station in a process of its own, whose camera shows what the test wants."""

    folder: Path
    port: int
    shown: FrameBgr
    parts: dict[str, list[Path]]
    process: subprocess.Popen[bytes] | None = None

    def render(self, number: int) -> np.ndarray:
        """What the camera sees."""
        return self.shown

    def show(self, kind: str, index: int) -> None:
        """Put another part before the camera."""
        self.shown = read_picture(self.parts[kind][index])

    def start(self) -> None:
        """`oddkind run --station`, until it answers."""
        command = [sys.executable, "-c", "from edge.cli import main; main()", "run", "--station", "station.yaml"]
        with (self.folder / "station.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=child_environment(), stdout=log, stderr=log)
        deadline_s = monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and monotonic() < deadline_s, (self.folder / "station.log").read_text()
            sleep(0.2)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, gently or not."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All that were written."""
        return [json.loads(line) for line in (self.folder / "results.jsonl").read_text().splitlines()]

    def _answers(self) -> bool:
        try:
            return ask(self.port, "/health").status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _as_a_monitor(page: Page) -> None:
    page.resize(1440)
    page.prefer(prefers_color_scheme="dark")


@pytest.fixture(scope="module")
def station(
    tmp_path_factory: pytest.TempPathFactory, bundle_dir: Path, good_dir: Path, defects_dir: Path
) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("station")
    shutil.copytree(bundle_dir, folder / "bundle")
    parts = {"good": sorted(good_dir.iterdir()), **_sure_defects(bundle_dir, defects_dir)}
    made = Station(folder, free_port(), read_picture(parts["good"][0]), parts)
    with MjpegServer(made.render, fps=8) as camera:
        camera_yaml = f"{{source: '{camera.url}', name: press, faults: {{frozen_after_s: 0}}}}"
        outputs = f"{{records: {{file: results.jsonl}}, http: {{port: {made.port}, stale_after_s: 5}}}}"
        text = f"name: line 3\nbundle: bundle\ncameras: [{camera_yaml}]\noutputs: {outputs}\n"
        (folder / "station.yaml").write_text(text)
        made.start()
        yield made
        made.stop()


def _sure_defects(bundle: Path, defects: Path) -> dict[str, list[Path]]:
    """Parts that this bundle rejects well above its threshold, so that a JPEG of them is rejected too."""
    inspector = Inspector.load(bundle)
    found = {}
    for kind in sorted(defects.iterdir()):
        scores = {p: inspector.detect(read_picture(p)).anomaly_score for p in sorted(kind.iterdir())}
        sure = [p for p, score in scores.items() if score > 1.2 * inspector.image_threshold]
        if len(sure) >= 3:
            found[kind.name] = sure
    assert len(found) >= 2
    return found


def kinds(station: Station) -> list[str]:
    return [kind for kind in station.parts if kind != "good"]


@pytest.fixture
def armed(station: Station, page: Page) -> Station:
    """Running, with nothing enrolled, and looked at."""
    if station.process is None or station.process.poll() is not None:
        station.start()
    (station.folder / "bundle" / "classes.npz").unlink(missing_ok=True)
    ask(station.port, "/api/arm", {})
    station.show("good", 0)
    page.open(station.port)
    page.wait(lambda: page.kind == "good")
    return station


# --- it says what the records say


def test_verdict_score_threshold_and_counts_are_those_of_the_records(armed: Station, page: Page) -> None:
    armed.show(kinds(armed)[0], 0)
    page.wait(lambda: page.kind == "defect" and page.text("#word") == "DEFECT")
    page.wait(lambda: page.text("#score") == f"{armed.records[-1]['anomaly_score']:.2f}")
    assert page.text("#threshold") == f"{armed.records[-1]['image_threshold']:.2f}"
    assert page.text("#station") == "line 3" and page.text("#state-name") == "armed"
    page.wait(lambda: page.count("#regions g") > 0)
    page.wait(lambda: page.script("return document.getElementById('picture').naturalWidth") > 0)
    page.element("#pause").click()
    page.wait(lambda: page.kind == "paused")
    sleep(1.2)
    records = armed.records
    counts = {verdict: sum(r["verdict"] == verdict for r in records) for verdict in ("good", "defect", "no_verdict")}
    page.wait(lambda: {name: int(page.text(f"#{name}").replace(",", "")) for name in counts} == counts)
    assert armed.records == records
    assert page.text("#yield") == f"{100 * counts['good'] / len(records):.1f}"
    marks = page.count("#trend circle.good, #trend .defect, #trend .none")
    assert marks == min(240, len(records))
    assert page.complaints() == []


def test_pausing_stops_inspecting_and_the_picture_goes_on(armed: Station, page: Page) -> None:
    page.element("#pause").click()
    page.wait(lambda: page.text("#word") == "PAUSED" and page.text("#state-name") == "paused")
    sleep(0.5)
    before, source = len(armed.records), page.element("#picture").get_attribute("src")
    sleep(1.5)
    assert len(armed.records) == before
    assert page.element("#picture").get_attribute("src") != source
    assert not page.element("#pause").is_enabled()
    page.element("#arm").click()
    page.wait(lambda: page.kind == "good")
    assert len(armed.records) > before


def test_a_reject_opens_its_evidence(armed: Station, page: Page) -> None:
    armed.show(kinds(armed)[0], 1)
    page.wait(lambda: page.kind == "defect")
    armed.show("good", 1)
    page.wait(lambda: page.kind == "good")
    newest = [r for r in armed.records if r["verdict"] == "defect"][-1]
    page.wait(lambda: page.script("return document.querySelector('.gallery li')?.dataset.id") == newest["result_id"])
    page.wait(lambda: page.script("return document.querySelector('.gallery img').naturalWidth") > 0)
    page.element(".gallery li button").click()
    assert page.element("#evidence").is_displayed()
    width = "const i = document.getElementById('evidence-picture'); return i.complete && i.naturalWidth"
    for number in (0, 1):  # heat-map and frame
        page.press("#evidence-tabs button", number)
        page.wait(lambda: page.script(width) == armed.shown.shape[1])
    page.press("#evidence-tabs button", 2)
    page.wait(lambda: 0 < page.script(width) <= armed.shown.shape[1])
    page.press("#evidence-tabs button", 3)
    assert json.loads(page.text("#evidence-record")) == newest
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.element("#evidence").is_displayed()
    assert page.script("return document.activeElement.closest('li')?.dataset.id") == newest["result_id"]


# --- enrolment


def picked(station: Station, page: Page, kind: str, indices: tuple[int, ...]) -> None:
    """One reject of each part is picked in the gallery."""
    for index in indices:
        station.show(kind, index)
        page.wait(lambda: page.kind == "defect")
        station.show("good", index)
        page.wait(lambda: page.kind == "good")
        newest = [r["result_id"] for r in station.records if r["verdict"] == "defect"][-1]
        first = "return document.querySelector('.gallery li')?.dataset.id"
        page.wait(lambda first=first, newest=newest: page.script(first) == newest)  # type: ignore[misc]
        page.press(".gallery li input")


def test_enrolment_through_the_page_names_the_next_part_and_undo_takes_it_back(armed: Station, page: Page) -> None:
    kind = kinds(armed)[0]
    picked(armed, page, kind, (0, 1))
    assert page.text("#look") == "Check 2"
    page.element("#class-name").send_keys("chipped edge")
    page.element("#look").click()
    page.wait(lambda: page.element("#check").is_displayed())
    rows = page.script("return [...document.querySelectorAll('#check-rows tr')].map((r) => r.innerText)")
    assert len(rows) == 2 and all("new: press: frame" in row for row in rows)
    assert "every support fits its own class best" in page.text("#check-verdict")
    armed.show(kind, 2)
    page.wait(lambda: page.script("return document.body.dataset.kind") == "defect")
    assert armed.records[-1]["defect_class"] is None  # looked at, and nothing counts yet
    page.element("#confirm").click()
    page.wait(lambda: page.text("#class") == "chipped edge")
    page.wait(lambda: armed.records[-1]["defect_class"] == "chipped edge")
    page.wait(lambda: "chipped edge" in page.text("#regions"))
    assert "2 supports now" in page.text("#said")
    assert page.text("#undo") == "Undo chipped edge"
    page.element("#undo").click()
    page.wait(lambda: page.text("#class") == "" and page.kind == "defect")
    page.wait(lambda: armed.records[-1]["defect_class"] is None)
    page.wait(lambda: "Undone" in page.text("#said") and not page.element("#undo").is_displayed())
    assert page.complaints() == []


def test_a_bad_name_is_refused_on_the_page(armed: Station, page: Page) -> None:
    picked(armed, page, kinds(armed)[0], (0,))
    page.element("#class-name").send_keys("unknown")
    page.element("#look").click()
    page.wait(lambda: "not 'good' and not 'unknown'" in page.text("#said"))
    assert not page.element("#check").is_displayed()


# --- it never stays good by itself


def test_a_station_that_is_killed_shows_no_contact_and_comes_back_by_itself(armed: Station, page: Page) -> None:
    armed.stop(signal.SIGKILL)
    killed_s = monotonic()
    page.wait(lambda: page.kind == "contact", timeout_s=6)
    assert monotonic() - killed_s < 5
    assert page.text("#word") == "NO CONTACT" and page.text("#why").startswith("no contact for")
    assert not page.element("#arm").is_enabled() and not page.element("#pause").is_enabled()
    armed.start()
    page.wait(lambda: page.kind == "good", timeout_s=30)


def test_a_station_that_hangs_shows_no_contact(armed: Station, page: Page) -> None:
    assert armed.process
    armed.process.send_signal(signal.SIGSTOP)
    try:
        page.wait(lambda: page.kind == "contact", timeout_s=6)
    finally:
        armed.process.send_signal(signal.SIGCONT)
    page.wait(lambda: page.kind == "good")


def test_records_that_stop_are_no_verdict(page: Page) -> None:
    control, settings = Control(), HttpOutput(port=free_port(), stale_after_s=1.0)
    with HttpSink(settings, ["a"], control) as sink:
        sink.write(an_inspection(0, "good", "a"), FRAME_BGR)
        sink.came_round(control.status)
        page.open(settings.port)
        page.wait(lambda: page.kind in ("good", "none"), timeout_s=3)
        for _ in range(12):
            sink.came_round(control.status)
            sleep(0.1)
        page.wait(lambda: page.text("#word") == "NO VERDICT" and "no part for" in page.text("#why"), timeout_s=1)
        page.wait(lambda: "stood still" in page.text("#why"), timeout_s=6)  # nobody comes round any more
        assert page.element("body").get_attribute("data-old") == "true"  # the picture is dimmed
        assert page.low_contrasts() == []


# --- several cameras, triggers, token


@pytest.fixture
def two(page: Page) -> Iterator[tuple[HttpSink, int, Control, list[Trigger]]]:
    """Two cameras of a station without its loop, one of them triggered."""
    control, taken = Control(station="two <b>cameras</b>"), list[Trigger]()
    control.take_triggers("left", lambda asked: taken.append(asked.trigger))
    settings = HttpOutput(port=free_port(), stale_after_s=3600)
    with HttpSink(settings, ["left", "right"], control) as sink:
        assert isinstance(sink, HttpSink)
        sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
        sink.write(an_inspection(0, "defect", "right"), FRAME_BGR)
        sink.came_round(control.status)
        page.open(settings.port)
        page.wait(lambda: page.kind == "good")
        yield sink, settings.port, control, taken


def test_cameras_are_tabs_with_their_verdict(two: tuple[HttpSink, int, Control, list[Trigger]], page: Page) -> None:
    sink, _, control, _ = two
    tabs = "return [...document.querySelectorAll('#cameras button')].map((b) => b.textContent)"
    sink.came_round(control.status)
    page.wait(lambda: page.script(tabs) == ["left: good", "right: defect"])
    page.element("#cameras button").send_keys(Keys.ARROW_RIGHT)
    sink.came_round(control.status)
    page.wait(lambda: page.kind == "defect" and page.text("#class") == "scratch")
    assert page.script("return document.activeElement.getAttribute('aria-selected')") == "true"
    assert page.text("#station") == "two <b>cameras</b>"  # text, never markup


def test_the_trigger_button_asks_for_a_verdict(two: tuple[HttpSink, int, Control, list[Trigger]], page: Page) -> None:
    taken = two[3]
    page.wait(lambda: page.element("#trigger").is_displayed())
    page.element("#trigger").click()
    page.wait(lambda: len(taken) == 1)
    assert taken[0].by == "http"


def test_master_parts_are_shown_from_the_page_before_it_can_be_armed(page: Page) -> None:
    control, settings = Control(), HttpOutput(port=free_port(), stale_after_s=3600)
    given = MasterPartSettings.model_validate({"parts": [{"name": "good-1", "expect": "good"}]})
    parts = MasterParts(given, ["a"], "bundle", control, lambda text: None)
    with HttpSink(settings, ["a"], control) as sink:
        sink.came_round(control.status)
        page.open(settings.port)
        page.wait(lambda: page.text("#master-parts span") == "due: good")
        page.element("#arm").click()
        page.wait(lambda: "master parts to be shown first: good-1" in page.text("#said"))
        page.element("#master-parts button").click()
        page.wait(lambda: parts.is_awaited("a"))
        sink.write(parts.judged("a", an_inspection(0, "good", "a")), FRAME_BGR)
        sink.came_round(control.status)
        page.wait(lambda: page.text("#master-parts span").startswith("good, "))
        assert page.text("#good") == "0"  # it is no production
        page.element("#arm").click()
        page.wait(lambda: control.is_armed)
        sink.came_round(control.status)
        page.wait(lambda: page.script("return document.querySelector('#master-parts button').disabled"))
        assert page.low_contrasts() == []


def test_without_triggered_cameras_there_is_no_such_button(armed: Station, page: Page) -> None:
    assert not page.element("#trigger").is_displayed()
    assert not page.element("#masters").is_displayed()


def test_a_token_is_asked_for_once(page: Page) -> None:
    settings, control = HttpOutput(host="0.0.0.0", port=free_port(), token=pydantic.SecretStr(TOKEN)), Control()
    with HttpSink(settings, ["a"], control) as sink:
        page.open(settings.port)
        assert page.driver.title == "oddkind: log in" and page.nameless({"textbox", "button"}) == []
        page.element("#token").send_keys("something else" + Keys.ENTER)
        page.wait(lambda: page.text(".said") == "this is not the token")
        assert page.low_contrasts() == []
        page.resize(390)
        assert page.script("return document.documentElement.scrollWidth") <= 390
        page.resize(1440)
        page.element("#token").send_keys(TOKEN + Keys.ENTER)
        page.wait(lambda: page.driver.title == "oddkind")
        sink.write(an_inspection(0, "defect", "a"), FRAME_BGR)
        sink.came_round(control.status)
        page.wait(lambda: page.kind == "defect")
        page.wait(lambda: page.script("return document.getElementById('picture').naturalWidth") > 0)
        assert page.driver.get_cookies()[0]["httpOnly"]
        page.driver.delete_all_cookies()


# --- whoever uses it


def test_no_request_leaves_for_another_host(armed: Station, page: Page) -> None:
    armed.show(kinds(armed)[0], 0)
    page.wait(lambda: page.kind == "defect")
    page.script("document.querySelector('[value=heatmap]').click()")
    sleep(1)
    asked = page.requests()
    own = (f"http://127.0.0.1:{armed.port}/", "blob:http://127.0.0.1", "data:", "about:", "chrome:")
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith(own)] == []
    policy = ask(armed.port, "/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everything_can_be_read_and_has_a_name(armed: Station, page: Page, scheme: str) -> None:
    page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    armed.show(kinds(armed)[0], 0)
    page.wait(lambda: page.kind == "defect")
    assert page.low_contrasts() == [] and page.nameless(NAMED) == []
    armed.show("good", 0)
    page.wait(lambda: page.kind == "good")
    assert page.low_contrasts() == []
    page.element("#pause").click()
    page.wait(lambda: page.kind == "paused")
    assert page.low_contrasts() == []
    page.element(".gallery button").click()
    assert page.low_contrasts() == [] and page.nameless(NAMED) == []


def test_the_page_is_built_for_those_who_do_not_see_it(armed: Station, page: Page) -> None:
    assert page.script("return document.documentElement.lang") == "en"
    assert "line 3" in page.driver.title
    levels = page.script(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => !h.closest('dialog'))"
        ".map((h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1 and levels[0] == 1 and max(levels) == 2
    assert page.script("return [...document.images].every((i) => i.hasAttribute('alt'))")
    assert page.script("return document.querySelectorAll('header, main').length") == 2
    assert page.element("#announced").get_attribute("aria-live") == "assertive"
    page.script("window.heard = 0; new MutationObserver(() => window.heard++).observe(announced, {childList: true})")
    sleep(1.5)
    assert page.script("return window.heard") == 0  # the same verdict is not said again with every frame
    armed.show(kinds(armed)[0], 0)
    page.wait(lambda: page.text("#announced").startswith("DEFECT"))
    assert page.script("return window.heard") <= 2
    assert "Score over threshold of the last" in page.element("#trend").get_attribute("aria-label")


def test_it_can_be_used_with_the_keyboard_alone(armed: Station, page: Page) -> None:
    reached = []
    while "pause" not in reached and len(reached) < 12:
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        focused = page.driver.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.text)
        assert page.script("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"
    assert reached == ["Skip to the last rejects", "pause"]
    focused.send_keys(Keys.ENTER)
    page.wait(lambda: page.kind == "paused")


def test_no_motion_for_those_who_want_none(armed: Station, page: Page) -> None:
    moving = (
        "return [...document.querySelectorAll('*')].map((e) => getComputedStyle(e))"
        ".filter((s) => s.transitionDuration !== '0s' || s.animationName !== 'none').length"
    )
    assert page.script(moving) > 0
    page.prefer(prefers_reduced_motion="reduce")
    assert page.script(moving) == 0


@pytest.mark.parametrize("width_px", [320, 390, 768, 1280])
def test_nothing_has_to_be_scrolled_sideways(armed: Station, page: Page, width_px: int) -> None:
    page.resize(width_px, 844)
    wide = "return [document.documentElement.scrollWidth, document.querySelector('dialog[open]')?.scrollWidth ?? 0]"
    assert page.script(wide)[0] <= width_px
    armed.show(kinds(armed)[0], 0)
    page.wait(lambda: page.kind == "defect")
    page.script("document.getElementById('class').textContent = 'W'.repeat(64)")
    assert page.script(wide)[0] <= width_px
    page.wait(lambda: page.script("return document.querySelector('.gallery button')"))
    page.script("document.querySelector('.gallery button').click()")
    document, dialog = page.script(wide)
    assert document <= width_px and 0 < dialog <= width_px
