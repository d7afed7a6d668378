"""Files of JSON lines as sources of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from jts_storage.errors import InvalidData
from jts_storage.readers import json_keys, text_files
from jts_storage.readers.blocks import BrokenRow
from jts_storage.readers.file_source import READ_BYTES, FileSource, Layout, cut_off, opened
from jts_storage.readers.owners import LABELS

_DECIMALS = 10  # more than a price may have: what is too long is refused, not cut
_SAMPLE_LINES = 1_000


class JsonLinesFile(FileSource):
    """A JSON object a line. Numbers are read as the decimals they are written as."""

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        super().__init__(path, layout, name)
        self._first = self._first_values()
        self.targets = self._targets(list(self._first)) if self._first else {}

    def _first_values(self) -> dict[str, Any]:
        """Return the first value of each column, which shows its type; nothing for an empty file.

        A column may begin anywhere: a symbol that only later lines have must not be overlooked.
        """
        found: dict[str, Any] = {}
        # The first lines nearly always show every column. The whole file is searched for others
        # afterwards, by a quicker way that finds new names only.
        for number, line in islice(text_files.lines(self.path), _SAMPLE_LINES):
            row = self._parsed(number, line)
            found |= {name: value for name, value in row.items() if found.get(name) is None}
            if None not in found.values():
                break
        try:
            for number, line in json_keys.first_lines(self.path):
                row = self._parsed(number, line)
                found |= {name: row[name] for name in row.keys() - found.keys()}
        except EOFError as exc:
            raise cut_off(self.name) from exc
        except OSError as exc:
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc
        return found

    def _names(self) -> list[str]:
        return list(self._first)

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        if not self._first:
            return
        with self._explained(), opened(self.path) as (raw, stream):
            reader = arrow_json.open_json(
                stream,
                read_options=arrow_json.ReadOptions(block_size=READ_BYTES),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._schema(), unexpected_field_behavior="ignore"
                ),
            )
            for batch in reader:
                self._read = self._consumed(raw.tell(), batch)
                yield pa.Table.from_batches([batch]).rename_columns(list(self.targets))

    def _schema(self) -> Any:
        fields = []
        for target, name in self.targets.items():
            value = self._first[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if target in ("timestamp", "date", "time"):
                kind = pa.int64() if is_number else pa.string()
            elif target in LABELS:
                kind = pa.bool_() if isinstance(value, bool) else pa.string()
                kind = pa.int64() if is_number and target != "symbol" else kind
            else:
                kind = pa.decimal128(38, _DECIMALS) if is_number else pa.string()
            fields.append((name, kind))
        return pa.schema(fields)

    def location(self, row: int, target: str) -> str:
        for index, (number, _) in enumerate(text_files.lines(self.path)):
            if index == row:
                return f"{self.name}, line {number}, column {self._header(target)!r}"
        return f"{self.name}, row {row + 1}, column {self._header(target)!r}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as exc:
            try:
                for number, line in text_files.lines(self.path):
                    self._check(number, self._parsed(number, line))
            except EOFError:
                raise cut_off(self.name) from exc
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
