"""An hour of a whole station on this machine: two cameras at 10 fps, database, MQTT, webhook, evidence, page open.

    python tests/station/soak.py BUNDLE PICTURES [--minutes 60] [--out soak.json]

PICTURES: a folder that the cameras show in turn. Prints what a reader of docs/performance.md finds there: memory and
its slope, age of the frames, drops, CPU share, threads, files and sockets. Needs mosquitto and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from mjpeg_server import MjpegServer  # noqa: E402
from mosquitto import Mosquitto, Subscriber, free_port  # noqa: E402
from webhook_server import WebhookServer  # noqa: E402

from edge.pictures import iter_picture_paths, read_picture  # noqa: E402

FPS, SAMPLE_S, WARM_UP_S = 10.0, 10.0, 60.0


class Scene:
    """Pictures in turn, each for a second, with the noise of a sensor."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._pictures = [read_picture(path) for path in list(iter_picture_paths(folder))[:40]]
        self._random = np.random.default_rng(seed)

    def render(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        picture = np.minimum(self._pictures[int(number / FPS) % len(self._pictures)], 252)
        rows = picture[:: max(1, picture.shape[0] // 8)]
        picture[:: max(1, picture.shape[0] // 8)] = rows + self._random.integers(0, 3, rows.shape, dtype=np.uint8)
        return picture


def serve_camera(folder: str, seed: int, port: int) -> None:
    """In a process of its own, so that the station's CPU share is the station's."""
    server = MjpegServer(Scene(Path(folder), seed).render, fps=FPS)
    server.port = port
    with server:
        signal.pause()


@contextmanager
def process(*command: str, folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child, asked to end at the end."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    with (folder / log).open("wb") as stream:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=stream)
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


def sample(pid: int) -> dict[str, float]:
    """What /proc says of the station."""
    status = Path(f"/proc/{pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in status.splitlines())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    targets = list(open_files(pid))
    return {
        "at_s": monotonic(),
        "rss_mib": int(facts["VmRSS"].split()[0]) / 1024,
        "threads": int(facts["Threads"]),
        "files": len(targets),
        "sockets": sum(target.startswith("socket:") for target in targets),
        "cpu_s": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    }


def open_files(pid: int) -> Iterator[str]:
    """What its descriptors point to; some are closed while we look."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            yield str(each.readlink())


def station_file(folder: Path, bundle: Path, cameras: list[int], broker: int, hook: str, page: int) -> Path:
    """Everything a station at a line has."""
    sources = "".join(
        f"  - {{source: 'http://127.0.0.1:{p}/video.mjpg', name: cam{n}}}\n" for n, p in enumerate(cameras)
    )
    (folder / "station.yaml").write_text(
        f"name: soak\nbundle: {bundle}\ncameras:\n{sources}outputs:\n"
        "  records: {file: records.jsonl, max_mb: 20}\n  database: {file: results.db}\n"
        f"  mqtt: {{host: 127.0.0.1, port: {broker}, thumbnails: true, commands: true}}\n"
        f"  webhook: {{url: '{hook}'}}\n  evidence: {{folder: evidence, max_mb: 50}}\n  http: {{port: {page}}}\n"
    )
    return folder / "station.yaml"


def slope_kib_per_h(samples: list[dict[str, float]]) -> float:
    """Of the resident memory, by least squares."""
    hours = np.array([s["at_s"] for s in samples]) / 3600
    return float(np.polyfit(hours - hours[0], [s["rss_mib"] * 1024 for s in samples], 1)[0])


def summary(samples: list[dict[str, float]], records: list[dict[str, Any]], received: int) -> dict[str, Any]:
    """Figures of the time after the warm-up."""
    warm = [s for s in samples if s["at_s"] - samples[0]["at_s"] >= WARM_UP_S] or samples
    ages = [record["age_ms"] for record in records if record["age_ms"] is not None]
    span_s = warm[-1]["at_s"] - warm[0]["at_s"]
    next_id: Counter[str] = Counter()
    dropped = 0
    for record in records:
        dropped += max(0, record["frame_id"] - next_id[record["source"]])
        next_id[record["source"]] = record["frame_id"] + 1
    return {
        "minutes": round((samples[-1]["at_s"] - samples[0]["at_s"]) / 60, 1),
        "records": len(records),
        "verdicts": dict(Counter(record["verdict"] for record in records)),
        "dropped": dropped,
        "mqtt_records": received,
        "age_ms": {f"p{q}": round(float(np.percentile(ages, q)), 1) for q in (50, 99, 100)},
        "rss_mib": {"first": round(warm[0]["rss_mib"], 1), "last": round(warm[-1]["rss_mib"], 1)},
        "rss_most_mib": round(max(s["rss_mib"] for s in samples), 1),
        "rss_slope_kib_per_h": round(slope_kib_per_h(warm), 1),
        "rss_slope_second_half_kib_per_h": round(slope_kib_per_h(warm[len(warm) // 2 :]), 1),
        "cpu_share_of_one_core": round((warm[-1]["cpu_s"] - warm[0]["cpu_s"]) / max(span_s, 1e-9), 3),
        **{name: _range(s[name] for s in warm) for name in ("threads", "files", "sockets")},
        "load_average": round(os.getloadavg()[2], 2),
    }


def _range(values: Iterable[float]) -> list[int]:
    given = list(values)
    return [int(min(given)), int(max(given)), int(given[-1])]


def wait_until_it_listens(port: int, station: subprocess.Popen[bytes], log: Path) -> None:
    """A station that ends before it does has said why."""
    while station.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        sleep(0.2)
    raise SystemExit(log.read_text())


def open_page(port: int) -> Any:
    """A browser that looks at the page all the time."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(flag)
    options.binary_location = "/usr/bin/chromium"
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    browser.get(f"http://127.0.0.1:{port}/")
    return browser


def soak(bundle: Path, pictures: Path, minutes: float, folder: Path) -> dict[str, Any]:
    """Run it all."""
    cameras, page = [free_port(), free_port()], free_port()
    with ExitStack() as opened:
        for number, port in enumerate(cameras):
            command = (sys.executable, __file__, "--serve", str(pictures), str(number), str(port))
            opened.enter_context(process(*command, folder=folder, log=f"camera{number}.log"))
        broker = opened.enter_context(Mosquitto(folder / "broker"))
        hook = opened.enter_context(WebhookServer())
        reader = opened.enter_context(Subscriber(broker))
        file = station_file(folder, bundle, cameras, broker.port, hook.url, page)
        sleep(2.0)
        command = (sys.executable, "-m", "edge.cli", "run", "--station", str(file))
        station = opened.enter_context(process(*command, folder=folder, log="station.log"))
        wait_until_it_listens(page, station, folder / "station.log")
        browser = open_page(page)
        opened.callback(browser.quit)
        samples, ends_s = [], monotonic() + 60 * minutes
        while monotonic() < ends_s and station.poll() is None:
            samples.append(sample(station.pid))
            sleep(SAMPLE_S)
        (folder / "page.png").write_bytes(browser.get_screenshot_as_png())
        received = len(reader.on("/record"))
    lines = [line for path in sorted(folder.glob("records*.jsonl")) for line in path.read_text().splitlines()]
    records = sorted(map(json.loads, lines), key=lambda record: (record["source"], record["frame_id"]))
    return {
        "at": round(time()),
        **summary(samples, records, received),
        "said": (folder / "station.log").read_text()[-2000:],
    }


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["--serve"]:
        serve_camera(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(given.bundle.resolve(), given.pictures.resolve(), given.minutes, Path(folder))
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
