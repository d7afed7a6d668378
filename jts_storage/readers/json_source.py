"""Files of JSON as sources of rows: an object a line, or an array of objects."""

from __future__ import annotations

import codecs
import json
import tempfile
import weakref
from collections.abc import Iterator, Mapping
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
_SAMPLE = 4_096


_READ_CHARACTERS = 1 << 20
_LONGEST_OBJECT = 1 << 24
_BLANKS = " \t\r\n\ufeff"


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


class JsonArrayFile(JsonLinesFile):
    """An array of objects, as pandas and web services write it; read from a copy with one a line.

    Numbers are copied as they are written, to the last digit.
    """

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        self._array = path
        copy = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it lives as long as the source
            "wb", prefix="jts-json-", suffix=".jsonl", delete=False
        )
        self._removed = weakref.finalize(self, Path(copy.name).unlink, missing_ok=True)
        with copy:
            for text in _objects(path, name or str(path)):
                copy.write(text.encode() + b"\n")
        super().__init__(Path(copy.name), layout, name or str(path))
        self._is_lasting = name is None

    @property
    def identity(self) -> Mapping[str, Any] | None:
        return text_files.identity(self._array) if self._is_lasting else None

    def location(self, row: int, target: str) -> str:
        return f"{self.name}, object {row + 1}, column {self._header(target)!r}"


def is_array(path: Path) -> bool:
    """Return whether a file of JSON begins with an array; what cannot be read is none."""
    try:
        with text_files.opened(path) as file:
            return file.read(_SAMPLE).lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(b"[")
    except (OSError, EOFError):
        return False


def _objects(path: Path, name: str) -> Iterator[str]:
    """Yield each object of the array on one line, as it is written."""
    decoder = json.JSONDecoder()
    try:
        with text_files.opened(path) as file:
            text = codecs.getreader("utf-8-sig")(file)
            rest = _after_blanks(_after_blanks("", text, name).removeprefix("["), text, name)
            number = 0
            while not rest.startswith("]"):
                number += 1
                end, rest = _end_of(decoder, rest, text, f"{name}, object {number}")
                # Line breaks stand between values only: within texts they are escaped.
                yield rest[:end].replace("\n", " ").replace("\r", " ")
                rest = _after_blanks(rest[end:], text, name)
                if rest.startswith(","):
                    rest = _after_blanks(rest[1:], text, name)
                elif not rest.startswith("]"):
                    raise InvalidData(f"{name}, object {number}: no comma stands behind it.")
            if not _is_end(rest.removeprefix("]"), text):
                raise InvalidData(f"{name}: something stands behind the end of its array.")
    except EOFError as exc:
        raise cut_off(name) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidData(f"{name} cannot be read: {exc}") from exc


def _is_end(rest: str, text: Any) -> bool:
    """Whether nothing but blanks comes."""
    while not rest.lstrip(_BLANKS):
        rest = text.read(_READ_CHARACTERS)
        if not rest:
            return True
    return False


def _after_blanks(rest: str, text: Any, name: str) -> str:
    """What comes next that is no blank.

    :raises InvalidData: nothing does, although the array is not closed.
    """
    rest = rest.lstrip(_BLANKS)
    while not rest:
        more = text.read(_READ_CHARACTERS)
        if not more:
            raise InvalidData(f"{name} ends within its array.", remedy="Copy it again.")
        rest = more.lstrip(_BLANKS)
    return rest


def _end_of(decoder: json.JSONDecoder, rest: str, text: Any, where: str) -> tuple[int, str]:
    """Where the object ends with which `rest` begins, and the rest with as much as it took."""
    while True:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError as exc:
            more = text.read(_READ_CHARACTERS) if len(rest) < _LONGEST_OBJECT else ""
            if not more:
                raise InvalidData(f"{where}: is no JSON: {exc}.") from exc
            rest += more
            continue
        if not isinstance(value, dict):
            raise InvalidData(
                f"{where}: must be a JSON object.",
                value=value,
                remedy="Arrays of arrays have no names of columns; write them as CSV.",
            )
        return end, rest
