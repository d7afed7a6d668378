"""Files and frames as sources of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jts_storage.errors import InvalidData, StorageError
from jts_storage.usecases import headers, text_files
from jts_storage.usecases.blocks import Source
from jts_storage.usecases.text_files import TextFormat

_READ_BYTES = 2 << 20
_BATCH_ROWS = 131_072
_DECIMALS = 10

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
    """:raises InvalidData: the suffix tells no format that is known."""
    plain = path.with_suffix("") if text_files.compression_of(path) else path
    try:
        return FORMATS[plain.suffix.lower()]
    except KeyError:
        raise InvalidData(
            f"{path}: the name tells no format; known are {', '.join(FORMATS)}, "
            "and .gz, .zst or .bz2 behind those of text."
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a caller knows of a source better than a guess.

    :param columns: headers by target, such as ``{"close": "Adj Close"}``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True


def file_source(path: Path, layout: Layout | None = None) -> Source:
    """The rows of a file, by its suffix.

    :raises NotFound: there is no such file.
    """
    layout = layout or Layout()
    kind = {"csv": CsvFile, "jsonl": JsonLinesFile, "parquet": ParquetFile, "arrow": ArrowFile}
    made: Callable[[Path, Layout], Source] = kind[format_of(text_files.found(path))]  # type: ignore[assignment]
    return made(path, layout)


class _File:
    commas_separate = True

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.name = str(path)
        self._read = 0
        self._size = max(path.stat().st_size, 1)

    @property
    def identity(self) -> Mapping[str, Any]:
        return text_files.identity(self.path)

    def progress(self) -> float | None:
        return min(self._read / self._size, 1.0)

    def _consumed(self, position: int, batch: Any) -> int:
        """Where the rows of `batch` end, about: Arrow reads a file far ahead of them."""
        if text_files.compression_of(self.path):
            return position
        return min(position, self._read + int(batch.nbytes))

    def _targets(self, names: list[str]) -> dict[str, str]:
        return headers.guess(names, self.layout.columns, where=self.name)

    def place(self, row: int, target: str) -> str:
        return f"{self.name}, row {row + 1}, column {self._header(target)!r}"

    def _header(self, target: str) -> str:
        found = self._targets(self._names())
        return found.get(target) or found.get("date") or target

    def _names(self) -> list[str]:
        raise NotImplementedError


class CsvFile(_File):
    """CSV, or its like with another delimiter; everything is read as text."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        self.form: TextFormat = text_files.sniff(
            path, encoding=layout.encoding, delimiter=layout.delimiter, header=layout.header
        )
        self.targets = self._targets(self.form.headers)

    @property
    def commas_separate(self) -> bool:  # type: ignore[override]
        return self.form.delimiter == ","

    def _names(self) -> list[str]:
        return self.form.headers

    def tables(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        wanted = list(self.targets.values())
        with self._explained(), _input(self.path) as (raw, stream):
            open_quote = text_files.first_open_quote(self.path, self.form)
            if open_quote is not None:
                raise InvalidData(
                    f"{self.name}, line {open_quote}: a quote is opened and not closed.",
                    remedy="Close it, or write it twice where it is part of a text.",
                )
            reader = arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(
                    block_size=_READ_BYTES,
                    encoding=self.form.encoding.removesuffix("-sig"),
                    column_names=self.form.headers,
                    skip_rows=self._lines_before_data(),
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.form.delimiter, newlines_in_values=True
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.form.headers, pa.string()),
                    include_columns=wanted,
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                self._read = self._consumed(raw.tell(), batch)
                yield pa.Table.from_batches([batch]).rename_columns(list(self.targets))

    def _lines_before_data(self) -> int:
        """Lines up to and with the header, so that our names stand for it."""
        if not self.form.has_header:
            return 0
        number, _ = next(text_files.lines(self.path)) if self._is_bytewise else (1, b"")
        return number

    @property
    def _is_bytewise(self) -> bool:
        return not self.form.encoding.startswith("utf-16")

    def place(self, row: int, target: str) -> str:
        line = text_files.line_of_row(self.path, self.form, row)
        return f"{self.name}, line {line}, column {self._header(target)!r}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except EOFError as exc:
            raise _cut_off(self.name) from exc
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as exc:
            try:
                misshapen = text_files.first_misshapen(self.path, self.form)
            except EOFError:
                raise _cut_off(self.name) from exc
            if misshapen is not None:
                line, fields = misshapen
                expected = len(self.form.headers)
                column = self.form.headers[min(fields, expected - 1)]
                raise InvalidData(
                    f"{self.name}, line {line}, column {column!r}: "
                    f"has {fields} fields, not {expected} as the header."
                ) from exc
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc


class JsonLinesFile(_File):
    """A JSON object a line. Numbers are read as the decimals they are written as."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        number, first = next(text_files.lines(path), (0, b""))
        self._first = self._parsed(number, first)
        self.targets = self._targets(list(self._first))

    def _names(self) -> list[str]:
        return list(self._first)

    def tables(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.json as arrow_json

        with self._explained(), _input(self.path) as (raw, stream):
            reader = arrow_json.open_json(
                stream,
                read_options=arrow_json.ReadOptions(block_size=_READ_BYTES),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._schema(), unexpected_field_behavior="ignore"
                ),
            )
            for batch in reader:
                self._read = self._consumed(raw.tell(), batch)
                yield pa.Table.from_batches([batch]).rename_columns(list(self.targets))

    def _schema(self) -> Any:
        import pyarrow as pa

        fields = []
        for target, name in self.targets.items():
            value = self._first[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if target in ("timestamp", "date", "time"):
                kind = pa.int64() if is_number else pa.string()
            elif target == "symbol":
                kind = pa.string()
            else:
                kind = pa.decimal128(38, _DECIMALS) if is_number else pa.string()
            fields.append((name, kind))
        return pa.schema(fields)

    def place(self, row: int, target: str) -> str:
        for index, (number, _) in enumerate(text_files.lines(self.path)):
            if index == row:
                return f"{self.name}, line {number}, column {self._header(target)!r}"
        return f"{self.name}, row {row + 1}, column {self._header(target)!r}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowInvalid, OSError) as exc:
            try:
                for number, line in text_files.lines(self.path):
                    self._check(number, self._parsed(number, line))
            except EOFError:
                raise _cut_off(self.name) from exc
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError as exc:
            column = getattr(exc, "colno", 1)
            raise InvalidData(
                f"{self.name}, line {number}, column {column}: is no JSON: {exc}."
            ) from exc
        if not isinstance(value, dict):
            raise InvalidData(f"{self.name}, line {number}: must be a JSON object.", value=value)
        return value

    def _check(self, number: int, row: dict[str, Any]) -> None:
        for name in self.targets.values():
            value, first = row.get(name), self._first[name]
            alike = isinstance(value, str) == isinstance(first, str) and not isinstance(
                value, list | dict | bool
            )
            if value is not None and not alike:
                raise InvalidData(
                    f"{self.name}, line {number}, column {name!r}: "
                    "is not of the kind it has in the first line",
                    value=value,
                )


class ParquetFile(_File):
    """Parquet, a batch of rows at a time."""

    def tables(self) -> Iterator[Any]:
        import pyarrow as pa

        with _readable(self.name), self._opened() as file:
            targets = self._targets(file.schema_arrow.names)
            total = max(file.metadata.num_rows, 1)
            done = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(targets.values())):
                done += batch.num_rows
                self._read = self._size * done // total
                table = pa.Table.from_batches([batch])
                yield table.select(list(targets.values())).rename_columns(list(targets))

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.path, pre_buffer=False)

    def _names(self) -> list[str]:
        with self._opened() as file:
            return list(file.schema_arrow.names)


class ArrowFile(_File):
    """Arrow IPC: a Feather file, or a stream."""

    def tables(self) -> Iterator[Any]:
        import pyarrow as pa

        with _readable(self.name), pa.memory_map(str(self.path)) as file:
            for batch in self._batches(file):
                targets = self._targets(batch.schema.names)
                table = pa.Table.from_batches([batch])
                self._read = file.tell()
                yield table.select(list(targets.values())).rename_columns(list(targets))
        self._read = self._size

    def _batches(self, file: Any) -> Iterator[Any]:
        import pyarrow as pa

        if file.read(6) == b"ARROW1":
            file.seek(0)
            with pa.ipc.open_file(file) as reader:
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
        else:
            file.seek(0)
            with pa.ipc.open_stream(file) as reader:
                yield from reader

    def _names(self) -> list[str]:
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as file:
            return list(next(self._batches(file)).schema.names)


def _cut_off(name: str) -> InvalidData:
    return InvalidData(f"{name} ends in the middle of what is compressed.", remedy="Copy it again.")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as exc:
        raise InvalidData(f"{name} cannot be read: {exc}") from exc


@contextmanager
def _input(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file itself, whose position tells how far it was read, and what it decompresses to."""
    import pyarrow as pa

    kind = text_files.compression_of(path)
    with pa.OSFile(str(path)) as raw:
        if kind is None:
            yield raw, raw
        else:
            with pa.CompressedInputStream(raw, kind) as stream:
                yield raw, stream


def frame_source(data: Any, layout: Layout | None = None, *, symbol: str | None = None) -> Source:
    """The rows of an Arrow table, a pandas or polars frame, or a list of ccxt's rows."""
    from jts_storage.usecases.frames import as_table

    return TableSource(as_table(data, symbol), layout or Layout())


class TableSource:
    """An Arrow table in memory."""

    commas_separate = True
    identity = None

    def __init__(self, table: Any, layout: Layout) -> None:
        self.name = "the frame"
        self._table = table
        self._targets = headers.guess(table.column_names, layout.columns, where=self.name)

    def tables(self) -> Iterator[Any]:
        yield self._table.select(list(self._targets.values())).rename_columns(list(self._targets))

    def place(self, row: int, target: str) -> str:
        header = self._targets.get(target) or self._targets.get("date") or target
        return f"row {row}, column {header!r}"

    def progress(self) -> float | None:
        return None


def is_frame(data: object) -> bool:
    kind = type(data)
    return kind.__module__.partition(".")[0] in {"pandas", "polars", "pyarrow"} or isinstance(
        data, list
    )


def must_be_source(data: object) -> StorageError:
    return InvalidData(
        "must be a path, a frame, a table, rows or an async iterator of series",
        field="source",
        value=type(data).__name__,
    )
