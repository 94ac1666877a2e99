"""The commented example of a station file; its text is `station.example.yaml` beside this file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge.errors import OutputError, UsageError


def example_text() -> str:
    """YAML with every key, those that are optional behind '#'."""
    return resources.files("edge.station").joinpath("station.example.yaml").read_text("utf-8")


def write_example(path: Path) -> None:
    """Write the example; UsageError when something is there already."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            try:
                stream.write(example_text())
                stream.flush()
            except OSError:
                path.unlink()
                raise
    except FileExistsError as exc:
        raise UsageError(f"{path} exists; give another name") from exc
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror or exc})") from exc
