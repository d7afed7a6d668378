"""CSV files as sources of rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from jts_storage._runtime.surface import layout_option
from jts_storage.errors import InvalidData
from jts_storage.readers import csv_headers, file_source, open_quotes, text_files
from jts_storage.readers.file_source import (
    FileSource,
    Layout,
    RowLines,
    cut_off,
    opened,
)
from jts_storage.readers.refusals import LayoutMissing
from jts_storage.readers.rows import BrokenRow, RowLine, kept_text, remedy_of_broken, wrong_count
from jts_storage.readers.text_files import TextFormat


class CsvFile(FileSource):
    """CSV, or its like with another delimiter; everything is read as text."""

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        super().__init__(path, layout, name)
        self.form: TextFormat = text_files.sniff(
            path,
            encoding=layout.encoding,
            delimiter=layout.delimiter,
            header=layout.header,
            skip_lines=layout.skip_lines,
        )
        try:
            self.targets = self._targets(self.form.headers)
        except InvalidData as exc:
            remedy = csv_headers.remedy(path, self.form, layout)
            if remedy is not None:
                exc.remedy = remedy.text
                if isinstance(exc, LayoutMissing):
                    exc.proposed = remedy.proposed
            raise
        self._lines = RowLines(self._row_lines)

    @property
    def commas_separate(self) -> bool:  # type: ignore[override]
        return self.form.delimiter == ","

    def _names(self) -> list[str]:
        return self.form.headers

    def _first_value(self) -> object:
        return self.form.first_value

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        # With several threads, Arrow does not number broken rows.
        is_strict = broken is None
        judge = _refused if broken is None else _Aside(self, broken, self._header_end)
        with self._explained(is_strict=is_strict), opened(self.path) as (raw, stream):
            self._refuse_open_quote()
            for batch in self._reader(stream, self.targets, judge, use_threads=is_strict):
                self._read = self._consumed(raw.tell(), batch)
                yield pa.Table.from_batches([batch]).rename_columns(list(self.targets))

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        wanted = {name: its for name, its in self.targets.items() if name in targets}
        if not wanted:  # Arrow would read all
            return
        with self._explained(is_strict=False), opened(self.path) as (_, stream):
            self._refuse_open_quote()
            for batch in self._reader(stream, wanted, lambda row: "skip", use_threads=False):
                yield pa.Table.from_batches([batch]).rename_columns(list(wanted))

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        return self._lines.of(rows)

    def _row_lines(self) -> Iterator[RowLine]:
        expected = len(self.form.headers)
        for row in text_files.records(self.path, self.form):
            if len(row.fields) == expected:
                yield RowLine(row.line, row.text)

    @cached_property
    def _header_end(self) -> int:
        return text_files.header_end(self.path, self.form)

    @cached_property
    def _size_above(self) -> int:
        return text_files.size_above(self.path, self.form)

    @cached_property
    def _open_quote(self) -> int | None:
        return open_quotes.first_open_quote(self.path, self.form)

    def _refuse_open_quote(self) -> None:
        # Arrow would take all up to the next quote for one field.
        if self._open_quote is not None:
            raise InvalidData(
                f"{self.name}, line {self._open_quote}: a quote is opened and not closed.",
                remedy="Close it, or write it twice where it is part of a text.",
            )

    def _reader(
        self,
        stream: Any,
        targets: dict[str, str],
        judge: Callable[[Any], str],
        *,
        use_threads: bool,
    ) -> Any:
        """
        :param judge: what becomes of a row with a wrong number of fields.
        """
        # By number: pandas leaves the header of an index empty, and Arrow needs a name for each.
        names = [str(number) for number in range(len(self.form.headers))]
        return arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                # Arrow looks for the end of what it skips in the first block alone.
                block_size=file_source.READ_BYTES + self._size_above,
                encoding=self.form.encoding.removesuffix("-sig"),  # Arrow skips a BOM itself
                column_names=names,
                skip_rows=self._header_end,  # the names are known
                use_threads=use_threads,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.form.delimiter,
                newlines_in_values=True,
                invalid_row_handler=judge,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[
                    names[self.form.headers.index(header)] for header in targets.values()
                ],
                strings_can_be_null=False,  # what counts as missing is decided in `values`
            ),
        )

    def location(self, row: int, target: str) -> str:
        (line,) = self.lines_of([row])
        return f"{self.name}, line {line.number}, column {self._header(target)!r}"

    @contextmanager
    def _explained(self, *, is_strict: bool) -> Iterator[None]:
        """
        :param is_strict: whether a row with a wrong number of fields is refused.
        """
        try:
            yield
        except EOFError as exc:
            raise cut_off(self.name) from exc
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as exc:
            # Read again in Python, slowly, to name the line: Arrow's error has none of the file.
            try:
                found = self._of_encoding(exc)
                if found is None:
                    misshapen = self._misshapen()  # refuses what Python cannot read
                    found = misshapen if is_strict else None
            except EOFError:
                raise cut_off(self.name) from exc
            if found is not None:
                raise found from exc
            raise InvalidData(f"{self.name} cannot be read: {exc}") from exc

    def _of_encoding(self, error: Exception) -> InvalidData | None:
        if not isinstance(error, UnicodeDecodeError) and "UTF8" not in str(error):
            return None
        line = text_files.first_undecodable(self.path, self.form)
        known = self.form.encoding.removesuffix("-sig")
        # What is not UTF-8 is taken for cp949.
        other = "latin-1" if known == "cp949" else "cp949"
        if line is None:
            return None
        return InvalidData(
            f"{self.name}, line {line}: cannot be read as {known}.",
            remedy=f"Say which encoding it has: {layout_option('encoding', other)}.",
        )

    def _misshapen(self) -> InvalidData | None:
        misshapen = text_files.first_misshapen(self.path, self.form)
        if misshapen is None:
            return None
        line, fields = misshapen
        expected = len(self.form.headers)
        column = self.form.headers[min(fields, expected - 1)]
        remedy = csv_headers.remedy(self.path, self.form, self.layout)
        return InvalidData(
            f"{self.name}, line {line}, column {column!r}: {wrong_count(fields, expected)}.",
            remedy=remedy.text if remedy else remedy_of_broken(),
        )


def _refused(row: Any) -> str:
    """A line of blanks is no row; Arrow leaves out empty ones only."""
    return "skip" if text_files.is_blank(row.text) else "error"


class _Aside:
    """Keeps rows with another number of fields than the header aside, for Arrow to skip."""

    def __init__(self, file: CsvFile, broken: list[BrokenRow], before: int) -> None:
        self._broken = broken
        self._before = before + 1
        self._count = 0
        # Read in Python only as far as the last broken row: Arrow counts rows, not lines.
        self._records = enumerate(text_files.records(file.path, file.form))

    def __call__(self, row: Any) -> str:
        if text_files.is_blank(row.text):
            self._count += 1
            return "skip"
        number = row.number - self._before
        try:
            line = next(record.line for index, record in self._records if index == number)
        except InvalidData:  # told by who explains what Arrow refuses
            return "error"
        reason = wrong_count(row.actual_columns, row.expected_columns)
        before = number - self._count
        self._broken.append(BrokenRow(before, line, reason, kept_text(row.text)))
        self._count += 1
        return "skip"
