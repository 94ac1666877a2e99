"""What lies in deploy/: read by the programs it is for where they are installed, and what must hold of it anyway."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from edge_processes import wait_for
from mosquitto import BINARY, free_port
from output_records import FRAME_BGR, an_inspection
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from edge.outputs.http_output import HttpOutput
from edge.station.check import check_station
from edge.station.control import Control
from edge.station.file import Station

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"


def needs(program: str, package: str) -> str:
    """Where it is; the test is skipped where it is not."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt install {package})")
    return found


def call(*command: object) -> str:
    """What a command that must succeed says."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- units


def test_the_unit_of_several_stations_is_that_of_one_but_for_its_names() -> None:
    one, several = ((DEPLOY / name).read_text() for name in ("oddkind.service", "oddkind@.service"))
    for of_one, of_several in [
        ("inspection station\n", "inspection station %i\n"),
        ("/etc/oddkind/station.yaml", "/etc/oddkind/%i.yaml"),
        ("/etc/oddkind/environment", "/etc/oddkind/%i.environment"),
        ("StateDirectory=oddkind\n", "StateDirectory=oddkind/%i\n"),
        ("/var/lib/oddkind\n", "/var/lib/oddkind/%i\n"),
    ]:
        assert of_one in one
        one = one.replace(of_one, of_several)
    assert one.partition("[Unit]")[2] == several.partition("[Unit]")[2]


def test_what_is_enabled_is_started_at_boot() -> None:
    assert "[Install]\nWantedBy=multi-user.target" in (DEPLOY / "oddkind.service").read_text()


# --- image


def instructions() -> list[tuple[str, str]]:
    """(name, the rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(number for number, (name, _) in enumerate(found) if name == "FROM") :]


def test_the_image_runs_without_root_shell_or_compiler() -> None:
    stage = dict(last_stage())
    assert stage["USER"] == "10001:10001"
    for name in ("ENTRYPOINT", "CMD", "VOLUME"):
        assert stage[name].startswith("["), f"{name} must not start a shell"
    assert re.search(r'CMD \["oddkind", "station", "health", ', stage["HEALTHCHECK"])
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert not any("apt-get" in rest for name, rest in last_stage() if name == "RUN")


def test_hnswlib_is_built_for_every_cpu() -> None:
    names = [name for name, rest in instructions() if name == "ENV" and "HNSWLIB_NO_NATIVE=1" in rest]
    assert names == ["ENV"]


def test_what_the_image_is_built_from_is_sent_to_the_builder_and_no_more() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert {word for words in copied for word in words} == sent
    assert all((ROOT / name).exists() for name in sent)


# --- compose


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def mounts() -> Iterator[tuple[str, str, str]]:
    """(service, here, there) of every file or folder of ours that a container sees."""
    for service, facts in compose()["services"].items():
        for mount in facts.get("volumes", []):
            here, there, *_ = mount.split(":")
            if here.startswith("."):
                yield service, here, there


def test_no_container_may_do_more_than_it_needs() -> None:
    for name, facts in compose()["services"].items():
        assert facts["read_only"] and facts["cap_drop"] == ["ALL"], name
        assert facts["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in facts["ports"])


def test_every_file_that_is_mounted_is_here_or_made_by_the_script(tmp_path: Path) -> None:
    needs("mosquitto_passwd", "mosquitto")
    call("bash", COMPOSE / "make-secrets.sh", tmp_path / "secrets")
    for _, here, _ in mounts():
        secret = tmp_path / here.removeprefix("./compose/")
        assert (DEPLOY / here).exists() or secret.exists() or here.endswith("/bundle"), here


def test_compose_reads_it() -> None:
    command = needs("docker-compose", "docker-compose")
    said = call(command, "-f", DEPLOY / "compose.yaml", "config")
    assert {"station", "broker", "prometheus"} <= set(yaml.safe_load(said)["services"])


def test_the_station_of_compose_is_right_and_talks_to_its_neighbours() -> None:
    checked = check_station(COMPOSE / "station.yaml", look_around=False)
    assert checked.problems == []
    assert isinstance(checked.station, Station)
    outputs, services = checked.station.outputs, compose()["services"]
    assert outputs.mqtt and outputs.http and outputs.http.token_file
    assert outputs.mqtt.host in services
    (job,) = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"station:{outputs.http.port}"]}]
    seen = {there for service, _, there in mounts() if service == "station"}
    assert {f"/etc/oddkind/{name}" for name in ("bundle", "http.token", "mqtt.password")} < seen


def test_secrets_are_made_once_and_not_for_everybody(tmp_path: Path) -> None:
    needs("mosquitto_passwd", "mosquitto")
    folder = tmp_path / "secrets"
    call("bash", COMPOSE / "make-secrets.sh", folder)
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == {"http.token", "mqtt.password", "mosquitto.passwd"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made["mosquitto.passwd"].startswith(b"station:$")
    call("bash", COMPOSE / "make-secrets.sh", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_the_broker_of_compose_lets_in_who_knows_the_word(tmp_path: Path) -> None:
    needs("mosquitto_passwd", "mosquitto")
    assert BINARY
    call("bash", COMPOSE / "make-secrets.sh", tmp_path / "secrets")
    port, word = free_port(), (tmp_path / "secrets" / "mqtt.password").read_text().strip()
    text = (COMPOSE / "mosquitto.conf").read_text().replace("listener 1883", f"listener {port} 127.0.0.1")
    text = text.replace("/mosquitto/config/passwd", str(tmp_path / "secrets" / "mosquitto.passwd"))
    (tmp_path / "mosquitto.conf").write_text(text.replace("/mosquitto/data/", f"{tmp_path}/") + "user root\n")
    broker = subprocess.Popen([BINARY, "-c", tmp_path / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, timeout_s=10)
        assert [answer(port, *login) for login in [("station", word), ("station", "guessed"), ("", "")]] == [
            "Success",
            "Not authorized",
            "Not authorized",
        ]
    finally:
        broker.kill()
        broker.wait()


def answer(port: int, user: str, password: str) -> str:
    """What the broker says to a client."""
    answers: list[str] = []
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.on_connect = lambda client, userdata, flags, reason, properties: answers.append(str(reason))
    if user:
        client.username_pw_set(user, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_for(lambda: answers, timeout_s=10)
    client.disconnect()
    client.loop_stop()
    return answers[0]


def prometheus_folder(folder: Path, port: int) -> Path:
    """Its configuration with paths and port of this test."""
    for name in ("prometheus.yml", "alerts.yml"):
        text = (COMPOSE / name).read_text().replace("/etc/prometheus", str(folder))
        (folder / name).write_text(text.replace("station:8080", f"127.0.0.1:{port}").replace("15s", "1s"))
    (folder / "http.token").write_text("a-word-of-some-length\n")
    return folder / "prometheus.yml"


def test_prometheus_finds_nothing_wrong_with_its_configuration(tmp_path: Path) -> None:
    said = call(needs("promtool", "prometheus"), "check", "config", prometheus_folder(tmp_path, 8080))
    assert "4 rules found" in said


def test_prometheus_reads_a_station_with_its_token(tmp_path: Path) -> None:
    command, port, own = needs("prometheus", "prometheus"), free_port(), free_port()
    file = prometheus_folder(tmp_path, port)
    query = ["promtool", "query", "instant", f"http://127.0.0.1:{own}"]
    settings = HttpOutput.model_validate({"port": port, "token": "a-word-of-some-length"})
    options = [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{own}"]
    with (
        settings.open(["left"], pytest.fail, Control()) as sink,
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([command, f"--config.file={file}", *options], stderr=log) as server,
    ):
        sink.write(an_inspection(0, "defect", "left"), FRAME_BGR)

        def value(expression: str) -> str:
            done = subprocess.run([*query, expression], capture_output=True, text=True, check=False)
            return done.stdout.partition("=> ")[2].partition(" @")[0]

        try:
            wait_for(lambda: value('up{job="oddkind"}') == "1", timeout_s=30)
            assert value('oddkind_inspections_total{verdict="defect"}') == "1"
            (tmp_path / "http.token").write_text("another-word-than-that\n")
            wait_for(lambda: value('up{job="oddkind"}') == "0", timeout_s=30)
        finally:
            server.kill()


# --- cameras


def test_every_kernel_setting_for_cameras_is_one() -> None:
    lines = [line for line in (DEPLOY / "60-oddkind-gige.conf").read_text().splitlines() if "=" in line]
    assert len(lines) == 4
    for line in lines:
        name, _, value = line.partition(" = ")
        assert Path("/proc/sys", name.replace(".", "/")).exists() and value.isdecimal(), line


def test_udev_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    udevadm = needs("udevadm", "udev")
    shutil.copy(DEPLOY / "70-oddkind.rules", tmp_path)
    (tmp_path / "71-wrong.rules").write_text('SUBSYSTM=="usb", MODE="0660"\n')
    script = (
        f"mkdir -p /run/udev/rules.d && mount --bind {tmp_path} /run/udev/rules.d && {udevadm} test /sys/class/net/lo"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if "71-wrong.rules" not in said:
        pytest.skip(f"udevadm reads no rules here: {said.strip()[-200:]}")
    assert re.search(r"71-wrong.rules:1 ", said)  # what is wrong is told of
    complaints = set(re.findall(r"70-oddkind.rules:\d+ (.*)", said))
    assert complaints <= {"Unknown group 'gpio', ignoring"}  # no such group on machines without GPIO
