"""Files and frames as sources of rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from jts_storage.errors import InvalidData, StorageError
from jts_storage.readers import headers, text_files
from jts_storage.readers.arrow_sources import ArrowFile, ParquetFile
from jts_storage.readers.blocks import Source
from jts_storage.readers.csv_source import CsvFile
from jts_storage.readers.file_source import Layout
from jts_storage.readers.json_copies import JsonArrayFile, JsonColumnsFile, is_array, one_object
from jts_storage.readers.json_source import JsonLinesFile
from jts_storage.readers.rows import BrokenRow, RowLine

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


def format_of(path: Path) -> str:
    """Return the format that the suffix stands for.

    :raises InvalidData: it stands for none.
    """
    is_compressed = text_files.compression_of(path) is not None
    kind = FORMATS.get(text_files.suffix_of(path))
    if kind is None or (is_compressed and kind not in ("csv", "jsonl")):
        raise InvalidData(
            f"{text_files.shown(path)}: the suffix stands for no known format. Known are "
            f"{', '.join(FORMATS)}, and those of text also with .gz, .zst or .bz2 appended."
        )
    return kind


def file_source(path: Path, layout: Layout | None = None, name: str | None = None) -> Source:
    """The rows of a file, by its suffix.

    :param name: of what the file was made from, if it is there only for now.
    :raises NotFound: there is no such file.
    """
    layout = layout or Layout()
    text_files.found(path)
    if layout.skip_lines and format_of(path) != "csv":
        raise InvalidData("is for CSV files only", field="skip_lines", value=layout.skip_lines)
    if format_of(path) == "jsonl":
        known = name or text_files.shown(path)
        if is_array(path, known):
            return JsonArrayFile(path, layout, name)
        columns = one_object(path, known)
        if columns is not None:
            return JsonColumnsFile(path, layout, name, value=columns)
    kind = {"csv": CsvFile, "jsonl": JsonLinesFile, "parquet": ParquetFile, "arrow": ArrowFile}
    made: Callable[[Path, Layout, str | None], Source] = kind[format_of(path)]  # type: ignore[assignment]
    return made(path, layout, name)


def frame_source(data: Any, layout: Layout | None = None, *, symbol: str | None = None) -> Source:
    """The rows of an Arrow table, a pandas or polars frame, or a list of ccxt's rows."""
    from jts_storage.readers.frames import as_table

    return FrameSource(as_table(data, symbol), layout or Layout())


class FrameSource:
    """An Arrow table in memory."""

    commas_separate = True
    identity = None

    def __init__(self, table: Any, layout: Layout) -> None:
        self.name = "the frame"
        self._table = table
        self._targets = headers.guess(
            table.column_names,
            layout.columns,
            where=self.name,
            needs_volume=layout.needs_volume,
            first_value=table.column(0)[0].as_py() if table.num_columns and len(table) else None,
        )

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        return self.columns(self._targets)

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        wanted = {name: its for name, its in self._targets.items() if name in targets}
        yield self._table.select(list(wanted.values())).rename_columns(list(wanted))

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        return [RowLine(row + 1, place="row") for row in rows]

    def location(self, row: int, target: str) -> str:
        header = self._targets.get(target) or self._targets.get("date") or target
        return f"row {row}, column {header!r}"

    def progress(self) -> float | None:
        return None


def is_frame(data: object) -> bool:
    kind = type(data)
    return kind.__module__.partition(".")[0] in {"pandas", "polars", "pyarrow"} or isinstance(
        data, list
    )


def unknown_source(data: object) -> StorageError:
    return InvalidData(
        "must be a path, a binary stream, a frame, a table, rows or an async iterator of series",
        field="source",
        value=type(data).__name__,
    )
