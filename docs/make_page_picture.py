"""Draws docs/page.png and docs/page-phone.png: python docs/make_page_picture.py DEMO_FOLDER (after `oddkind demo`).

A station inspects the demo's rendered line with the demo's bundle; headless Chromium looks at its page. Needs chromium
and chromedriver.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from calibration.demo_line import KINDS, render_defect, render_good
from edge.cameras.frames import Camera, Frame, Frames
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.http_output import HttpOutput
from edge.pictures import FrameBgr
from edge.result import Provenance, utc_now
from edge.setting import InspectorSetting
from edge.station.control import Control

PORT = 8099
PARTS, PER_S = 150, 8.0
DEFECT_SHARE = 0.12
FIRST_UNSEEN = 500  # parts that the demo has not rendered
LAST_KIND, LAST_PART = "chip", 507
TIMEOUT_S = 120.0


class RenderedLine(Camera):
    """One part after another, now and then a bad one; the last one stays before the camera."""

    name = "camera over belt 2"

    def __init__(self) -> None:
        self.last_part = threading.Event()

    def frames(self, stop: threading.Event) -> Frames:
        """PARTS of them, then the last one once a second until `stop`."""
        rng = random.Random(5)
        for number in range(PARTS):
            is_bad = rng.random() < DEFECT_SHARE
            index = FIRST_UNSEEN + number
            yield self._frame(number, render_defect(rng.choice(KINDS), index)[0] if is_bad else render_good(index))
            stop.wait(1 / PER_S)
        last = render_defect(LAST_KIND, LAST_PART)[0]
        for number in range(PARTS, sys.maxsize):
            if stop.is_set():
                return
            yield self._frame(number, last)
            self.last_part.set()
            stop.wait(TIMEOUT_S)

    def _frame(self, number: int, frame_bgr: FrameBgr) -> Frame:
        return Frame(frame_bgr, Provenance(self.name, number, utc_now()))


def main(demo: Path) -> None:
    """Both pictures, beside this script."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder, station(demo / "bundle", Path(folder)) as line, browser() as driver:
        driver.get(f"http://127.0.0.1:{PORT}/")
        wait_for_the_last_part(driver, line)
        take(driver, here / "page.png", 1440, 900)
        take(driver, here / "page-phone.png", 390, 844)


@contextmanager
def station(bundle: Path, folder: Path) -> Iterator[RenderedLine]:
    """Inspecting on a thread of its own, with a copy of the demo's classes."""
    classes = folder / "classes.npz"
    shutil.copy(bundle / "classes.npz", classes)
    inspector = Inspector.load(bundle, classes_path=classes)
    control, line, stop = Control(InspectorSetting.of(inspector), "line 3"), RenderedLine(), threading.Event()
    output = HttpOutput(port=PORT, stale_after_s=TIMEOUT_S)
    with output.open([line.name], print, control) as sink:
        thread = threading.Thread(
            target=run, args=([line], inspector, [sink]), kwargs={"stop": stop, "control": control}
        )
        thread.start()
        try:
            yield line
        finally:
            stop.set()
            thread.join()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Headless, with dark colours."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        yield driver
    finally:
        driver.quit()


def wait_for_the_last_part(driver: webdriver.Chrome, line: RenderedLine) -> None:
    """Until it is on the page, with the crops of the gallery."""
    deadline_s = monotonic() + TIMEOUT_S
    seen = "return document.body.dataset.kind === 'defect' && document.querySelectorAll('#regions g').length > 0"
    while not (line.last_part.is_set() and driver.execute_script(seen)):
        if monotonic() > deadline_s:
            sys.exit("the last part did not appear on the page")
        sleep(0.1)
    sleep(1.0)


def take(driver: webdriver.Chrome, path: Path, width_px: int, height_px: int) -> None:
    """A picture of the page as it is on a screen of this size."""
    size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1.25, "mobile": width_px < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_script("document.getElementById('boxes').onchange()")  # regions for the new size
    sleep(1.0)
    driver.save_screenshot(str(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
