"""`results.parquet`: one row a picture, flat columns, regions nested. The only file that imports pyarrow."""

from __future__ import annotations

from datetime import datetime
from typing import Any, BinaryIO

from edge.errors import UsageError

Record = dict[str, Any]

# Records held until they are written as one row group: small enough for memory, large enough to compress well.
ROW_GROUP = 10_000
BOX = ("x0", "y0", "x1", "y1")


def arrow() -> Any:
    """The pyarrow package; UsageError says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise UsageError("Parquet needs pyarrow, which is not installed; pip install 'oddkind[parquet]'") from exc
    return pyarrow


class ParquetTable:
    """Takes records and writes them in groups; `close` writes the last one and the footer."""

    def __init__(self, stream: BinaryIO) -> None:
        self._arrow = arrow()
        self._schema = parquet_schema()
        self._writer = self._arrow.parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._rows: list[Record] = []

    def add(self, record: Record) -> None:
        """Append one row."""
        self._rows.append(parquet_row(record))
        if len(self._rows) >= ROW_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write what is left; the stream stays open."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def parquet_schema() -> Any:
    """The columns, see docs/record.md."""
    pa = arrow()
    text, real, whole = pa.string(), pa.float64(), pa.int32()
    ranked = pa.struct([("defect_class", text), ("relation_score", real)])
    region = [*((side, whole) for side in BOX), ("area_px", pa.int64()), ("peak_score", real), ("defect_class", text)]
    region += [("relation_score", real), ("ranking", pa.list_(ranked))]
    columns = [("path", text), ("verdict", text), ("anomaly_score", real), ("image_threshold", real)]
    columns += [("defect_class", text), ("relation_score", real), *((side, whole) for side in BOX)]
    columns += [("regions", pa.list_(pa.struct(region))), ("error", text), ("captured_at", pa.timestamp("ms", "UTC"))]
    columns += [("source", text), ("frame_id", pa.int64()), ("bundle_id", text), ("result_id", text)]
    return pa.schema(columns)


def parquet_row(record: Record) -> Record:
    """A record with the strongest region's box and relation score beside it, boxes as four numbers."""
    regions = [{**region, **dict(zip(BOX, region["box_xyxy"], strict=True))} for region in record["regions"]]
    strongest = regions[0] if regions else {}
    moment = datetime.fromisoformat(record["captured_at"])
    beside = {name: strongest.get(name) for name in ("relation_score", *BOX)}
    return {**record, **beside, "regions": regions, "captured_at": moment}
