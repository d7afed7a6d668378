"""Tables written as files of each kind that an import reads."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq


def written(table: pa.Table, folder: Path, kind: str) -> Path:
    """Write ``csv``, ``jsonl``, ``json`` or ``parquet``; return where."""
    path = folder / f"p.{kind}"
    match kind:
        case "csv":
            arrow_csv.write_csv(table, path)
        case "jsonl":
            path.write_text("\n".join(map(json.dumps, table.to_pylist())))
        case "json":
            path.write_text(json.dumps(table.to_pylist()))
        case _:
            pq.write_table(table, path)
    return path
