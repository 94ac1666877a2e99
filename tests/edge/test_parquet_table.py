"""`results.parquet` says what `results.jsonl` says, row by row and value by value."""

from __future__ import annotations

import io
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import run_oddkind

from edge import parquet_table
from edge.parquet_table import BOX, ParquetTable


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bundle_dir: Path, defects_dir: Path) -> Path:
    """Named and unnamed regions, a good part's row and one without a verdict."""
    root = tmp_path_factory.mktemp("parquet")
    bundle = Path(shutil.copytree(bundle_dir, root / "bundle"))
    pictures = Path(shutil.copytree(defects_dir, root / "pictures"))
    (pictures / "broken.png").write_text("no picture")
    for kind in sorted(defects_dir.iterdir())[:2]:
        enrolled = run_oddkind("enrol", str(bundle), kind.name, *map(str, sorted(kind.iterdir())[:2]), "--force")
        assert enrolled.exit_code == 0, enrolled.output
    done = run_oddkind("score", str(bundle), str(pictures), "--out", str(root / "out"), "--parquet", "--always-type")
    assert done.exit_code == 1, done.output
    return root / "out"


def records_in(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / "results.jsonl").read_text("utf-8").splitlines()]


def as_record(row: dict[str, Any]) -> dict[str, Any]:
    """A row back in the shape of a record."""
    regions = [
        {**{k: v for k, v in r.items() if k not in BOX}, "box_xyxy": [r[k] for k in BOX]} for r in row["regions"]
    ]
    beside = {"relation_score", *BOX}
    return {**{k: v for k, v in row.items() if k not in beside}, "regions": regions}


def test_every_value_of_every_record_is_there(results: Path) -> None:
    records = records_in(results)
    rows = pq.read_table(results / "results.parquet").to_pylist()
    assert len(rows) == len(records) > 5
    assert {record["verdict"] for record in records} >= {"defect", "no_verdict"}
    assert any(region["ranking"] for record in records for region in record["regions"])
    for row, record in zip(rows, records, strict=True):
        back = as_record(row)
        assert back.pop("captured_at") == datetime.fromisoformat(record["captured_at"])
        dropped = set(record) - set(back) - {"captured_at"}
        assert dropped <= {"schema_version", "latency_ms", "age_ms", "device", "trigger", "master_part"}
        assert back == {name: record[name] for name in back}
        strongest = record["regions"][0] if record["regions"] else {}
        assert row["relation_score"] == strongest.get("relation_score")
        assert [row[name] for name in BOX] == strongest.get("box_xyxy", [None] * 4)


def test_many_rows_are_written_in_groups(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_table, "ROW_GROUP", 4)
    stream = io.BytesIO()
    table = ParquetTable(stream)
    records = records_in(results) * 3
    for record in records:
        table.add(record)
    table.close()
    content = pq.ParquetFile(io.BytesIO(stream.getvalue()))
    assert content.num_row_groups == -(-len(records) // 4)
    assert [row["path"] for row in content.read().to_pylist()] == [record["path"] for record in records]


def test_no_rows_are_a_table_all_the_same() -> None:
    stream = io.BytesIO()
    ParquetTable(stream).close()
    assert pq.read_table(io.BytesIO(stream.getvalue())).num_rows == 0
