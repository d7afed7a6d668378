"""Text files: their encoding, delimiter and compression, and the line of a row."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

import pyarrow as pa

from jts_storage._runtime.surface import layout_option
from jts_storage.errors import InvalidData, NotFound

_SAMPLE = 65_536
_LONGEST_HEADER = 1 << 20
_FIRST_ROWS = 4
"""A header has three lines at most; a row behind it shows what its first column holds."""
_SEARCHED_AT_ONCE = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
_BLANKS = "\ufeff \t\r\n\f\v"
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
_NO_UTF_8 = re.compile("[\udc80-\udcff]")
_QUOTED = re.compile('"[^"]*"')
# What a file may begin with to say its encoding (a byte order mark).
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


class Record(NamedTuple):
    """A row of a CSV file: its first and last line, and its text without the last break."""

    line: int
    fields: list[str]
    text: str
    last: int


@dataclass(frozen=True, slots=True)
class TextFormat:
    """
    :param header_lines: how many that are not blank stand before the first row; one with breaks
        in its quotes counts once.
    :param skipped: how many lines of the file stand above all that.
    """

    encoding: str
    delimiter: str
    headers: list[str]
    has_header: bool
    first_value: str | None = None
    header_lines: int = 1
    skipped: int = 0

    @property
    def is_bytewise(self) -> bool:
        """Whether line breaks and quotes are single bytes."""
        return not codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))


def shown(path: Path) -> str:
    """A path as text that every store and terminal takes: bytes that are no UTF-8 as escapes."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def found(path: Path) -> Path:
    """:raises NotFound: there is no such file."""
    if not path.is_file():
        raise NotFound(f"There is no file {shown(path)}.", remedy="Check the path.")
    return path


def compression_of(path: Path) -> str | None:
    return COMPRESSIONS.get(path.suffix.lower())


def suffix_of(path: Path) -> str:
    """Return the suffix that stands for the format, without that of a compression."""
    return (path.with_suffix("") if compression_of(path) else path).suffix.lower()


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed by its suffix, to be read by Python."""
    kind = compression_of(path)
    if kind == "gzip":
        return gzip.open(path)  # type: ignore[return-value]
    if kind == "bz2":
        return bz2.open(path)
    if kind == "zstd":
        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(os.fsencode(path)), "zstd"))
    return path.open("rb")


def sniff(
    path: Path,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    skip_lines: int = 0,
) -> TextFormat:
    """Find the encoding, delimiter and headers of a file from its beginning.

    :param skip_lines: how many lines stand above the header.
    :raises InvalidData: it is empty or cannot be read, or encoding or delimiter are impossible.
    """
    _check(encoding, delimiter)
    try:
        known = encoding or _encoding(path, skip_lines)
        with _behind_of(path, known, skip_lines) as lines:
            delimiter, rows = _first_rows(path, lines, delimiter, skip_lines)
    except (OSError, EOFError) as exc:
        raise InvalidData(f"{shown(path)}: cannot be decompressed: {exc}.") from exc
    first, *others = (row.fields for row in rows)
    headers = [_LINE_BREAK.sub(" ", name).strip() for name in first]
    if not header:
        headers = [str(number + 1) for number in range(len(headers))]
    header_lines = int(header)
    if header and (index := _yahoo_index(first, others)):
        headers, header_lines = [index, *headers[1:]], 3
    values = [row[0] for row in others[max(header_lines - 1, 0) :]]
    first_value = next(iter(values), None)
    return TextFormat(known, delimiter, headers, header, first_value, header_lines, skip_lines)


def _first_rows(
    path: Path, lines: TextIO, delimiter: str | None, before: int
) -> tuple[str, list[Record]]:
    """The delimiter, and the first rows that are not blank, each of them whole.

    :param before: how many lines of the file stand before these.
    """
    text, rows, size = "", [], _SAMPLE
    while True:
        piece = lines.read(size)
        text += piece
        is_all = len(piece) < size
        if first_line := _first_line(io.StringIO(text, newline="")):
            delimiter = delimiter or _delimiter(path, first_line)
            found = _parsed(io.StringIO(text, newline=""), delimiter, shown(path), before)
            # The last line may go on behind the sample: half a name would be another column.
            whole = before + sum(1 for _ in io.StringIO(text, newline="")) - 1
            rows = [row for row in _not_blank(found, _FIRST_ROWS) if is_all or row.last <= whole]
        if is_all or len(rows) == _FIRST_ROWS or len(text) >= _LONGEST_HEADER:
            break
        size = len(text)
    if delimiter is not None and rows:
        return delimiter, rows
    if not is_all:
        above = layout_option("skip_lines", before + 1)
        raise InvalidData(
            f"{shown(path)}, line {before + 1}: the header does not end within "
            f"{_LONGEST_HEADER >> 20} MB.",
            remedy=f"Close a quote that is opened in it; or {above} leaves that line out.",
        )
    behind = f" behind the {before} lines that are skipped" if before else ""
    raise InvalidData(f"{shown(path)} is empty{behind}.")


@contextmanager
def _behind_of(
    path: Path, encoding: str, count: int, errors: str = "replace"
) -> Iterator[io.TextIOWrapper]:
    """What stands behind so many lines of a file."""
    with (
        opened(path) as file,
        io.TextIOWrapper(file, encoding, errors=errors, newline="") as lines,
    ):
        for _ in range(count):
            lines.readline()
        yield lines


def _yahoo_index(first: list[str], others: list[list[str]]) -> str | None:
    """Return what the third line of a header calls the first column, where there are three.

    yfinance and pandas write them for columns of two levels: ``Price,Close,...``, then
    ``Ticker,AAPL,...``, then ``Date,,,``.
    """
    if len(others) < 2 or [first[:1], others[0][:1]] != [["Price"], ["Ticker"]]:
        return None
    name, *rest = others[1]
    return name if name and not any(rest) else None


def is_blank(text: str) -> bool:
    """Whether a line has nothing but blanks."""
    return not text.strip(_BLANKS)


def _first_line(lines: Iterable[str]) -> str:
    """The first line that is not blank, with those that its quotes go on over."""
    taken: list[str] = []
    is_open = False
    for line in lines:
        if not taken and is_blank(line):
            continue
        taken.append(line)
        is_open ^= bool(line.count('"') % 2)
        if not is_open:
            return "".join(taken)
    return taken[0] if taken else ""


def _delimiter(path: Path, line: str) -> str:
    if suffix_of(path) == ".tsv" and "\t" in line:
        return "\t"
    return max(DELIMITERS, key=_QUOTED.sub("", line).count)


def _check(encoding: str | None, delimiter: str | None) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InvalidData(
            "must be one character, and neither a quote nor a line break",
            field="delimiter",
            value=delimiter,
        )
    if encoding is None:
        return
    try:
        "".encode(encoding)
    except LookupError as exc:
        raise InvalidData(str(exc), field="encoding", value=encoding) from exc


def _encoding(path: Path, skip_lines: int) -> str:
    with opened(path) as file:
        sample = file.read(_SAMPLE)
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    try:
        # A sample that is not the whole file may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) < _SAMPLE)
    except UnicodeDecodeError:
        return "cp949"  # what Korean brokers' programs still write
    if skip_lines:
        # What is skipped may be all of the sample, and in letters that both encodings have.
        with _behind_of(path, "utf-8", skip_lines, "surrogateescape") as lines:
            if _NO_UTF_8.search(lines.read(_SAMPLE)):
                return "cp949"
    return "utf-8"


def records(path: Path, form: TextFormat) -> Iterator[Record]:
    """Rows of a CSV file as they are written; slow, for finding what went wrong."""
    with _behind_of(path, form.encoding, form.skipped) as text:
        found = _parsed(text, form.delimiter, shown(path), form.skipped)
        _not_blank(found, form.header_lines)
        yield from found


def first_records(path: Path, form: TextFormat, count: int) -> list[Record]:
    """The first rows that are not blank, those of a header among them."""
    with _behind_of(path, form.encoding, form.skipped) as text:
        return _not_blank(_parsed(text, form.delimiter, shown(path), form.skipped), count)


def header_end(path: Path, form: TextFormat) -> int:
    """The last line above the rows; 0 if there is none."""
    header = first_records(path, form, form.header_lines)
    return max((row.last for row in header), default=form.skipped)


def size_above(path: Path, form: TextFormat) -> int:
    """How many bytes of UTF-8 stand above the rows."""
    end = header_end(path, form)
    with _behind_of(path, form.encoding, 0) as lines:
        return sum(len(line.encode()) for line in islice(lines, end))


def _parsed(lines: Iterable[str], delimiter: str, name: str, before: int = 0) -> Iterator[Record]:
    """All rows but those of empty lines, which Arrow does not count either.

    :param before: how many lines of the file stand before these.
    """
    seen: list[str] = []
    reader = csv.reader(_noted(lines, seen, delimiter), delimiter=delimiter)
    begins = before + 1
    try:
        for fields in reader:
            last = before + reader.line_num
            if fields:
                yield Record(begins, fields, "".join(seen).rstrip("\r\n"), last)
            seen.clear()
            begins = last + 1
    except csv.Error as exc:
        raise InvalidData(f"{name}, line {begins}: cannot be read: {exc}.") from exc


def _not_blank(found: Iterator[Record], count: int) -> list[Record]:
    """Take rows until there are so many that are not blank."""
    return list(islice((row for row in found if not is_blank(row.text)), count))


def _noted(lines: Iterable[str], seen: list[str], delimiter: str) -> Iterator[str]:
    """The lines, with texts cut that are longer than Python's reader takes: it is asked how many
    fields there are, and its limit is that of the whole process."""
    limit = csv.field_size_limit()
    inner = re.compile(rf'([^"\r\n{re.escape(delimiter)}]{{100}})[^"\r\n{re.escape(delimiter)}]+')
    for line in lines:
        seen.append(line)
        yield inner.sub(r"\1", line) if len(line) > limit else line


def first_misshapen(path: Path, form: TextFormat) -> tuple[int, int] | None:
    """Line and number of fields of the first row that has more or fewer than the header."""
    expected = len(form.headers)
    for row in records(path, form):
        if len(row.fields) != expected and not is_blank(row.text):
            return row.line, len(row.fields)
    return None


def first_undecodable(path: Path, form: TextFormat) -> int | None:
    """The first line that is not of the encoding."""
    decoder = codecs.getincrementaldecoder(form.encoding)()
    before = 0
    with opened(path) as file:
        while True:
            piece = file.read(_SEARCHED_AT_ONCE)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as exc:
                return before + exc.object.count(b"\n", 0, exc.start) + 1
            if not piece:
                return None
            before += piece.count(b"\n")


def whole_lines(path: Path) -> Iterator[bytes]:
    """The file in large pieces that end with a line."""
    with opened(path) as file:
        yield from whole_pieces(file)


def whole_pieces(file: Any) -> Iterator[bytes]:
    """What is left of an open file in large pieces that end with a line."""
    rest = b""
    while piece := file.read(_SEARCHED_AT_ONCE):
        stop = piece.rfind(b"\n") + 1
        if stop:
            # Copied once: pieces are large.
            yield b"".join((rest, memoryview(piece)[:stop]))
            rest = piece[stop:]
        else:
            rest += piece
    if rest:
        yield rest


def lines(path: Path) -> Generator[tuple[int, bytes]]:
    """The lines of a file that are not empty, with their numbers; close it if you stop before."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and line.strip() != codecs.BOM_UTF8:
                yield number, line


def identity(path: Path) -> dict[str, Any]:
    """Return what changes when the file does."""
    state = path.stat()
    return {"path": shown(path.resolve()), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
