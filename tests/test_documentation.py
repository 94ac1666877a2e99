"""The documentation says what the code does: every command, option, field and file, and every example parses."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import jsonschema
import pydantic
import pytest
from output_records import an_inspection, query
from pydantic.fields import FieldInfo

from edge.cli import main
from edge.manifest import BundleManifest, PackManifest
from edge.outputs.database import Database, Entry, prepare
from edge.outputs.database_sink import DatabaseSettings
from edge.outputs.evidence import EvidenceOutput
from edge.outputs.gpio_reject import RejectLine, RejectOutput
from edge.outputs.http_output import HttpOutput
from edge.outputs.mqtt import MqttSettings
from edge.outputs.record_files import CsvOutput
from edge.outputs.webhook import WebhookSettings
from edge.registry import COMMANDS
from edge.result import record_schema
from edge.station.check import check_station
from edge.station.file import Station

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")])


def make_cli() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE_CLI = make_cli()
EVERY_COMMAND = list(MAKE_CLI.commands())
NAMES = [" ".join(path) for path, _ in EVERY_COMMAND]


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def example_lines() -> Iterator[tuple[str, str]]:
    """Every `oddkind ...` line in the help of a command or in a page."""
    for path, command in EVERY_COMMAND:
        for line in MAKE_CLI.split_help(command)[1]:
            yield " ".join(path), line
    for page in PAGES:
        for block in code_blocks(page, "sh"):
            yield from ((page.name, line.strip()) for line in block.splitlines() if is_ours(line))


def is_ours(line: str) -> bool:
    return re.match(r"\S*oddkind ", line.strip()) is not None


def parse(line: str) -> None:
    """Parse `oddkind ...` as the command line would, without running it; click.UsageError when it cannot be."""
    words = shlex.split(line, comments=True)
    group: click.Command = main
    words = words[1:]
    while isinstance(group, click.Group):
        command = group.get_command(click.Context(group), words[0])
        assert command is not None, f"{line}: no command {words[0]!r}"
        group, words = command, words[1:]
    group.make_context(group.name, words).close()


def test_every_registered_command_is_listed() -> None:
    assert [path[0] for path, _ in EVERY_COMMAND if len(path) == 1] == list(COMMANDS)


@pytest.mark.parametrize(("path", "command"), EVERY_COMMAND, ids=NAMES)
def test_every_command_says_what_it_does_and_shows_an_example_of_itself(
    path: tuple[str, ...], command: click.Command
) -> None:
    prose, examples = MAKE_CLI.split_help(command)
    assert len(prose) > 10
    assert any(line.startswith(" ".join(("oddkind", *path))) for line in examples), examples


@pytest.mark.parametrize(("path", "command"), EVERY_COMMAND, ids=NAMES)
def test_every_option_has_help(path: tuple[str, ...], command: click.Command) -> None:
    bare = [p.opts[0] for p in command.params if isinstance(p, click.Option) and not (p.help or "").strip()]
    assert not bare


def test_the_page_of_commands_is_what_the_help_says() -> None:
    due = "docs/cli.md is out of date; run: python docs/make_cli.py"
    assert MAKE_CLI.PAGE.read_text(encoding="utf-8") == MAKE_CLI.page(), due


@pytest.mark.parametrize(("where", "line"), list(example_lines()))
def test_every_example_parses(where: str, line: str) -> None:
    parse(line)


def test_a_wrong_example_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse("oddkind score bundle folder --out results --no-such-option")
    with pytest.raises(AssertionError, match="no command 'inspect'"):
        parse("oddkind inspect bundle")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert not missing


def test_every_field_of_the_record_is_explained() -> None:
    page = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    schema = record_schema()
    region = schema["properties"]["regions"]["items"]["properties"]
    missing = [name for name in (*schema["properties"], *region) if f"| `{name}` |" not in page]
    assert not missing


def test_the_example_record_follows_the_schema() -> None:
    (example,) = code_blocks(ROOT / "docs" / "record.md", "json")
    record = json.loads(example)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(record_schema(), format_checker=checker).validate(record)
    assert record["verdict"] == "defect"
    assert record["regions"]


@pytest.mark.parametrize(
    "model",
    [DatabaseSettings, MqttSettings, WebhookSettings, HttpOutput, CsvOutput, EvidenceOutput, RejectOutput, RejectLine],
)
def test_every_setting_of_an_output_is_explained(model: type[pydantic.BaseModel]) -> None:
    cells = re.findall(
        r"^\| ([^|]+) \|", (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    named = set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert not set(model.model_fields) - named


def test_the_example_of_the_page_of_outputs_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    (example,) = code_blocks(ROOT / "docs" / "outputs.md", "yaml")
    (tmp_path / "station.yaml").write_text("bundle: bundle\ncameras: [{source: pictures}]\n" + example)
    assert check_station(tmp_path / "station.yaml", look_around=False).problems == []


def test_every_query_of_the_page_of_outputs_runs_and_finds_something(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    prepare(path)
    for number, verdict in enumerate(("good", "defect", "no_verdict")):
        inspection = an_inspection(number, verdict)
        day = replace(inspection.provenance, captured_at="2026-11-23T10:00:00.000Z")
        Database(path, durable=False).add([Entry(replace(inspection, provenance=day), {"webhook": None})])
    queries = code_blocks(ROOT / "docs" / "outputs.md", "sql")
    assert len(queries) == 3
    assert [bool(query(path, sql)) for sql in queries] == [True] * 3


@pytest.mark.parametrize("model", [PackManifest, BundleManifest])
def test_every_key_of_the_manifests_is_explained(model: type[pydantic.BaseModel]) -> None:
    page = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    missing = [name for name in sorted(manifest_keys(model)) if f"`{name}`" not in page]
    assert not missing


def test_every_key_of_a_station_file_is_explained_with_its_default() -> None:
    page = (ROOT / "docs" / "station.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", page, flags=re.MULTILINE))
    keys = dict(dotted_keys(Station))
    assert list(rows) == list(keys)
    needed = {name for name, field in keys.items() if field.is_required()}
    assert {name for name, default in rows.items() if default == "needed"} == needed
    plain = {name: f.default for name, f in keys.items() if isinstance(f.default, bool | int | float)}
    assert plain
    assert [name for name, default in plain.items() if rows[name] != f"`{str(default).lower()}`"] == []


def test_every_example_of_a_station_file_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "hunter2")
    examples = code_blocks(ROOT / "docs" / "station.md", "yaml")
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "station.yaml").write_text(example, encoding="utf-8")
        assert check_station(tmp_path / "station.yaml", look_around=False).problems == []


def test_the_station_file_of_the_guide_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    (example,) = code_blocks(ROOT / "docs" / "line.md", "yaml")
    (tmp_path / "station.yaml").write_text(example, encoding="utf-8")
    assert check_station(tmp_path / "station.yaml", look_around=False).problems == []


def test_every_message_of_the_guide_is_one_that_the_code_says() -> None:
    page = (ROOT / "docs" / "line.md").read_text(encoding="utf-8")
    table = page.partition("| it says |")[2]
    messages = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    sources = [*ROOT.glob("edge/**/*.py"), *ROOT.glob("deploy/*.sh")]
    said = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert len(messages) > 20
    assert [message for message in messages if message not in said] == []


def test_every_file_of_a_bundle_is_explained(bundle_dir: Path) -> None:
    page = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    files = [p.name for p in bundle_dir.iterdir() if not p.name.startswith((".", "backbone", "relation_head"))]
    assert "manifest.json" in files
    assert not [name for name in files if f"`{name}`" not in page]


def manifest_keys(model: type[pydantic.BaseModel]) -> set[str]:
    """Names of all fields, those of parts included."""
    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys |= {name}.union(*(manifest_keys(part) for part in models_in(field.annotation)))
    return keys


def dotted_keys(model: type[pydantic.BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(`runtime.threads`, its field) of every key, parts after the key they stand under."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for part in models_in(field.annotation):
            yield from dotted_keys(part, f"{prefix}{name}.")


def models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """Models named in an annotation such as `IndexFacts | None` or `dict[str, FileFacts]`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]
