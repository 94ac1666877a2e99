"""A real headless Chromium that looks at a station's page, and what a test asks of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

# Text that can be seen, with its colour and all that lies under it; then the contrast of both, as WCAG 2 computes it.
CONTRASTS = """
const lit = (c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * lit(r) + 0.7152 * lit(g) + 0.0722 * lit(b);
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
function ground(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    const style = getComputedStyle(e);
    if (style.backgroundImage !== "none") return null;
    layers.push(parse(style.backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
}
const found = [];
const walk = document.createTreeWalker(document.querySelector("dialog[open]") || document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
  const box = element.getBoundingClientRect(), style = getComputedStyle(element);
  if (!text || !element.checkVisibility() || box.width < 2) continue;
  if (element.closest("svg, .unseen, .skip, :disabled")) continue;
  const under = ground(element);
  if (!under) continue;
  const [a, b] = [light(over(parse(style.color), under)), light(under)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const px = parseFloat(style.fontSize), isLarge = px >= 24 || (px >= 18.66 && style.fontWeight >= 700);
  found.push([text.slice(0, 40), Math.round(ratio * 100) / 100, isLarge ? 3 : 4.5]);
}
return found;
"""


class Page:
    """The page in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, port: int, path: str = "/") -> None:
        """Look at a station of this machine, with nothing left of what was seen before."""
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get(f"http://127.0.0.1:{port}{path}")

    def resize(self, width: int, height: int = 900) -> None:
        """As a monitor, or a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, **features: str) -> None:
        """Such as prefers_color_scheme='dark'."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def script(self, text: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(text, *arguments)

    def element(self, selector: str) -> WebElement:
        """The first that fits."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Its text as it stands in the page, seen or not."""
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)).strip()

    @property
    def kind(self) -> str:
        """What the banner shows: good, defect, none, paused, waiting or contact."""
        return str(self.script("return document.body.dataset.kind"))

    def wait(self, what: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Until it is so."""
        deadline_s = monotonic() + timeout_s
        while not what():
            shown = self.text("#verdict"), self.text("#said")
            assert monotonic() < deadline_s, f"it did not happen; the page shows {shown}"
            sleep(0.05)

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = (e["params"] for e in entries if e["method"] == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[str]:
        """Errors in the browser's console, those of connections that end aside."""
        entries = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        return [text for text in entries if "net::ERR" not in text]

    def count(self, selector: str) -> int:
        """How many fit."""
        return int(self.script("return document.querySelectorAll(arguments[0]).length", selector))

    def press(self, selector: str, number: int = 0) -> None:
        """Click what may be out of sight."""
        self.script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, number)

    def nameless(self, roles: set[str]) -> list[str]:
        """Things of these roles that assistive technology finds no name for."""
        self.driver.execute_cdp_cmd("Accessibility.enable", {})
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        seen = [n for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in roles]
        assert seen
        return [json.dumps(n) for n in seen if not str(n.get("name", {}).get("value", "")).strip()]

    def low_contrasts(self) -> list[list[object]]:
        """[text, ratio, ratio that WCAG AA asks for] of what is hard to read."""
        found = self.script(CONTRASTS)
        assert len(found) > 2
        return [[text, ratio, least] for text, ratio, least in found if ratio < least]


@contextmanager
def chromium() -> Iterator[Page]:
    """A browser of its own; the test is skipped where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium is not installed (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Page(driver)
    finally:
        driver.quit()
