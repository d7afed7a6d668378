"""Files of JSON as sources of rows: an object a line."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.json as arrow_json

from jts_storage.domain.columns import FIELDS
from jts_storage.errors import InvalidData
from jts_storage.readers import json_decimals, json_keys, json_kinds, text_files
from jts_storage.readers.file_source import FileSource, Layout, RowLines, cut_off, opened
from jts_storage.readers.owners import LABELS
from jts_storage.readers.rows import (
    MISSHAPEN,
    UNREADABLE,
    BrokenRow,
    Place,
    RowLine,
    kept_text,
    remedy_of_broken,
)

_DEEP = b"[" * 200
_SAMPLE_LINES = 1_000


_BLANK_BYTES = b" \t\r\n\f\v" + codecs.BOM_UTF8

_Line: TypeAlias = tuple[int, bytes]
_Refuse: TypeAlias = Callable[[int, bytes, InvalidData, str], None]


class JsonLinesFile(FileSource):
    """A JSON object a line. Numbers are read as the decimals they are written as."""

    _place: Place = "line"
    _fault: InvalidData | None = None
    """The first line that is no object."""

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        super().__init__(path, layout, name)
        self._broken_lines: set[int] = set()
        self._lines = RowLines(self._row_lines)
        self._first = self._first_values()
        try:
            self.targets = self._targets(list(self._first)) if self._first else {}
        except InvalidData as exc:
            # Columns may only seem to be missing, where something else stands among the objects.
            raise self._fault or exc from None
        if not self._first and self._fault is not None:
            raise self._fault
        self._look_on()

    def _first_values(self) -> dict[str, Any]:
        """Return the first value of each column, which shows its type; nothing for an empty file.

        A column may begin anywhere: a symbol that only later lines have must not be overlooked.
        """
        found: dict[str, Any] = {}
        # The first lines nearly always show every column. The whole file is searched for others
        # afterwards, by a quicker way that finds new names only.
        with closing(text_files.lines(self.path)) as lines:
            for number, line in islice(lines, _SAMPLE_LINES):
                row = self._object(number, line)
                found |= {name: value for name, value in row.items() if found.get(name) is None}
                if found and None not in found.values():
                    break
        try:
            with closing(json_keys.first_lines(self.path)) as lines:
                for number, line in lines:
                    row = self._object(number, line)
                    found |= {name: row[name] for name in row.keys() - found.keys()}
        except EOFError as exc:
            raise cut_off(self.name) from exc
        except OSError as exc:
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc
        return found

    def _look_on(self) -> None:
        """Look for values that show the type of a column where the first says nothing of it."""
        left = json_kinds.undecided(self.targets, self._first)
        texts: dict[str, list[object]] = {name: [] for name in left}
        with closing(text_files.lines(self.path)) as lines:
            for number, line in lines if left else ():
                row = self._object(number, line)
                for name, target in list(left.items()):
                    value = row.get(name)
                    if json_kinds.shows_kind(target, value):
                        self._first[name] = value
                    elif json_kinds.may_be_text(target, value):
                        texts[name].append(value)
                        if len(texts[name]) < _SAMPLE_LINES:
                            continue
                        self._first[name] = value
                    else:
                        continue
                    del left[name]
                if not left:
                    return
        # Text of a format that only the caller knows, if it is anything.
        self._first |= {name: texts[name][0] for name in left if texts[name]}

    def _object(self, number: int, line: bytes) -> dict[str, Any]:
        """The object of a line; what is none is told when its rows are read."""
        try:
            return self._parsed(number, line)
        except InvalidData as exc:
            self._fault = self._fault or exc
            return {}

    def _names(self) -> list[str]:
        return list(self._first)

    def _first_value(self) -> object:
        return next(iter(self._first.values()), None)

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        def refuse(number: int, line: bytes, error: InvalidData, rule: str) -> None:
            if broken is None:
                error.remedy = error.remedy or remedy_of_broken()
                raise error
            told = str(error.args[0]).removeprefix(self._where(number)).strip(":,. ")
            text = kept_text(_as_text(line))
            broken.append(BrokenRow(rows, number, told, text, rule, self._place))

        rows = 0
        for position, tables in self._batches(self.targets, refuse):
            self._read = position
            for table in tables:
                yield table
                rows += table.num_rows

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        wanted = {name: its for name, its in self.targets.items() if name in targets}
        for _, tables in self._batches(wanted, lambda *_: None):
            yield from tables

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        return self._lines.of(rows)

    def _row_lines(self) -> Iterator[RowLine]:
        for number, line in text_files.lines(self.path):
            if number not in self._broken_lines:
                yield RowLine(number, _as_text(line), self._place)

    def _batches(
        self, targets: Mapping[str, str], refuse: _Refuse
    ) -> Iterator[tuple[int, Iterator[Any]]]:
        """How far the file was read, again and again, and the tables of the lines up to there.

        :param refuse: is told each line that cannot be read, before the table that follows it.
        """
        if not self._first:
            return
        before = 0
        with self._explained(), opened(self.path) as (raw, stream):
            for piece in text_files.whole_pieces(stream):
                yield raw.tell(), self._tables_of(piece, before, targets, refuse)
                before += piece.count(b"\n")

    def _tables_of(
        self, piece: bytes, before: int, targets: Mapping[str, str], refuse: _Refuse
    ) -> Iterator[Any]:
        schema = self._schema(targets)
        if _has_objects_only(piece):
            try:
                table = self._as_table(piece, schema)
            except pa.ArrowInvalid:
                table = None
            if table is not None and table.num_rows == _count_lines(piece):
                yield table.rename_columns(list(targets))
                return
        lines = [
            (number, line)
            for number, line in enumerate(piece.splitlines(), before + 1)
            if line.strip(_BLANK_BYTES)
        ]
        for table in self._one_by_one(lines, schema, refuse):
            yield table.rename_columns(list(targets))

    def _one_by_one(self, lines: Sequence[_Line], schema: Any, refuse: _Refuse) -> Iterator[Any]:
        """Read lines of which some cannot be read: those that follow each other in one table."""
        good: list[_Line] = []
        for number, line in lines:
            fault = self._fault_of(number, line, schema)
            if fault is None:
                good.append((number, line))
                continue
            yield from self._halved(good, schema, refuse)
            good = []
            self._broken_lines.add(number)
            refuse(number, line, *fault)
        yield from self._halved(good, schema, refuse)

    def _fault_of(self, number: int, line: bytes, schema: Any) -> tuple[InvalidData, str] | None:
        """What seems to be wrong with a line, and the rule it breaks; Arrow may refuse another."""
        try:
            odd = self._odd(number, self._parsed(number, line))
        except InvalidData as exc:
            return exc, UNREADABLE if isinstance(exc.__cause__, _NoNumber) else MISSHAPEN
        if odd is None:
            return None
        try:
            # It takes a number in quotes among others, and does so whatever lines are read with it.
            self._as_table(line, schema)
        except pa.ArrowInvalid:
            return odd, UNREADABLE
        return None

    def _halved(self, lines: Sequence[_Line], schema: Any, refuse: _Refuse) -> Iterator[Any]:
        """Read lines that seem to be well, each half for itself where Arrow refuses one."""
        if not lines:
            return
        try:
            yield self._as_table(b"\n".join(line for _, line in lines), schema)
        except pa.ArrowInvalid as exc:
            if len(lines) > 1:
                half = len(lines) // 2
                yield from self._halved(lines[:half], schema, refuse)
                yield from self._halved(lines[half:], schema, refuse)
                return
            ((number, line),) = lines
            self._broken_lines.add(number)
            told = str(exc).partition("JSON parse error: ")[2] or str(exc)
            error = InvalidData(f"{self._where(number)}: cannot be read: {told}")
            refuse(number, line, error, UNREADABLE)

    def _as_table(self, lines: bytes, schema: Any) -> Any:
        try:
            return _as_table(lines, schema)
        except pa.ArrowInvalid as exc:
            refused = exc
        numbers = [self.targets[target] for target in FIELDS if target in self.targets]
        filled = json_kinds.with_nulls(lines, numbers)
        if filled != lines:
            try:
                return _as_table(filled, schema)
            except pa.ArrowInvalid as exc:
                refused = exc
        if not json_decimals.has_many(refused, filled):
            raise refused
        return _as_table(filled, json_decimals.widened(schema, numbers))

    def _schema(self, targets: Mapping[str, str]) -> Any:
        fields = []
        for target, name in targets.items():
            value = self._first[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if target in LABELS:
                kind = pa.bool_() if isinstance(value, bool) else pa.string()
                kind = pa.int64() if is_number and target != "symbol" else kind
            elif target == "time":
                kind = pa.int64() if is_number else pa.string()
            else:  # moments too: some write 1704153600.0
                kind = json_decimals.USUAL if is_number else pa.string()
            fields.append((name, kind))
        return pa.schema(fields)

    def location(self, row: int, target: str) -> str:
        (line,) = self.lines_of([row])
        return f"{self._where(line.number)}, column {self._header(target)!r}"

    def _where(self, number: int) -> str:
        return f"{self.name}, {self._place} {number}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as exc:
            try:
                for _ in text_files.lines(self.path):
                    pass
            except EOFError:
                raise cut_off(self.name) from exc
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        where = self._where(number)
        # Told before it is parsed: that goes down to the end of the stack, where nothing else that
        # Python has to do meanwhile, such as closing a file, has any room.
        if _DEEP in line:
            raise InvalidData(f"{where}: is nested too deeply.")
        try:
            value = json.loads(line, parse_constant=_no_constant)
        except _NoNumber as exc:
            told = f"{where}: {exc} is no number in JSON."
            raise InvalidData(told, remedy="Write null for what is missing.") from exc
        except RecursionError as exc:
            raise InvalidData(f"{where}: is nested too deeply.") from exc
        except ValueError as exc:
            column = getattr(exc, "colno", 1)
            raise InvalidData(f"{where}, column {column}: is no JSON: {exc}.") from exc
        if not isinstance(value, dict):
            raise self._no_object(where, value)
        return value

    def _no_object(self, where: str, value: object) -> InvalidData:
        remedy = None
        if isinstance(value, list):
            remedy = "Arrays are read where the whole file is one array of them."
        return InvalidData(f"{where}: must be a JSON object", value=value, remedy=remedy)

    def _odd(self, number: int, row: dict[str, Any]) -> InvalidData | None:
        """The first value that is of another kind than its column."""
        for target, name in self.targets.items():
            value, first = row.get(name), self._first[name]
            if json_kinds.is_missing(target, value):
                continue
            if target == "symbol" and isinstance(value, int | float):
                return InvalidData(
                    f"{self._where(number)}, column {name!r}: is a number, and symbols are text: "
                    "zeros may stand in front",
                    value=value,
                    remedy='Write symbols in quotes, as in "005930".',
                )
            alike = isinstance(value, str) == isinstance(first, str) and not isinstance(
                value, list | dict | bool
            )
            if isinstance(first, bool):
                alike = isinstance(value, bool)
            if first is not None and not alike:
                return InvalidData(
                    f"{self._where(number)}, column {name!r}: "
                    f"is not of the kind it has in other {self._place}s",
                    value=value,
                )
        return None


def _as_text(line: bytes) -> str:
    return line.decode("utf-8-sig", errors="replace").strip()


class _NoNumber(ValueError):
    """NaN or an infinity, which Python writes and no JSON has."""


def _no_constant(text: str) -> None:
    raise _NoNumber(text)


def _as_table(lines: bytes, schema: Any) -> Any:
    return arrow_json.read_json(
        io.BytesIO(lines),
        read_options=arrow_json.ReadOptions(block_size=len(lines) + 1, use_threads=False),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    )


def _has_objects_only(piece: bytes) -> bool:
    """Return whether each line begins as an object: at ``null`` Arrow would end the process."""
    begun = piece.removeprefix(codecs.BOM_UTF8).startswith(b"{")
    return begun and piece.count(b"\n{") + 1 == _count_lines(piece)


def _count_lines(piece: bytes) -> int:
    return piece.count(b"\n") + (not piece.endswith(b"\n"))
