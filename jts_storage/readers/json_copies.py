"""Files of one value of JSON, read from a copy with an object a line.

Numbers are copied as they are written, to the last digit.
"""

from __future__ import annotations

import codecs
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from jts_storage.errors import InvalidData
from jts_storage.readers import headers, json_arrays, text_files
from jts_storage.readers.file_source import Layout, cut_off
from jts_storage.readers.json_source import JsonLinesFile
from jts_storage.readers.json_values import DECODER, Number, TwiceNamed, written
from jts_storage.readers.owners import LABELS
from jts_storage.readers.rows import Place, wrong_count

_SAMPLE: Final = 4_096
_LARGEST: Final = 64 << 20
"""One object is read as a whole, which takes several times as much memory."""
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BLANKS: Final = b" \t\r\n"
_TEXT: Final = rb'"(?:[^"\\]|\\.)*"'
_NESTED: Final = re.compile(
    rb"\{\s*(?:%b\s*:\s*(?:%b|[-+.\w]+)\s*,\s*)*%b\s*:\s*[\[{]" % (_TEXT, _TEXT, _TEXT)
)
"""How an object of columns begins: with one, perhaps behind what is said of all."""
_WHOLE: Final = re.compile(r"-?(0|[1-9]\d*)")
_TOO_DEEP: Final = "[" * 200
"""In the place of a row that Python can read and not write; it is refused as such a row."""
_REMEDY: Final = (
    "Write an object a line, or one array of objects; pandas does with "
    "df.to_json(path, orient='records', lines=True), an index as reset_index() makes a column."
)

Object: TypeAlias = dict[str, Any]


def _begun(names: Iterable[str]) -> list[str]:
    """How each value of an object begins, with its name."""
    return [f"{written(name)}: " for name in names]


def _object(begun: Sequence[str], row: Iterable[object]) -> str:
    """An object of a row."""
    try:
        values = [name + written(value) for name, value in zip(begun, row, strict=True)]
    except RecursionError:
        return _TOO_DEEP
    return f"{{{', '.join(values)}}}"


class _Copied(JsonLinesFile):
    """
    :param lines: makes the lines of the copy.
    """

    _place: Place = "row"

    def __init__(self, path: Path, layout: Layout, name: str | None, lines: Iterator[str]) -> None:
        self._original = path
        copy = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it lives as long as the source
            "wb", prefix="jts-json-", suffix=".jsonl", delete=False
        )
        self._removed = weakref.finalize(self, Path(copy.name).unlink, missing_ok=True)
        with copy:
            for line in lines:
                # What is half of a character in Python is an escape in JSON.
                copy.write(line.encode(errors="backslashreplace") + b"\n")
        super().__init__(Path(copy.name), layout, name or text_files.shown(path))
        self._is_lasting = name is None

    @property
    def identity(self) -> Mapping[str, Any] | None:
        return text_files.identity(self._original) if self._is_lasting else None


class JsonArrayFile(_Copied):
    """An array of objects, as pandas and web services write it, or of arrays, as exchanges do.

    The columns of arrays are named by their numbers, as those of CSV without a header.
    """

    _width: int | None = None
    """How many values the first array has; None where the rows are objects."""
    _named: Sequence[str] = ()
    """How each of its values begins in an object."""

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        known = name or text_files.shown(path)
        super().__init__(path, layout, name, self._lines_of(path, known))

    def _lines_of(self, path: Path, known: str) -> Iterator[str]:
        for number, (text, value) in enumerate(json_arrays.objects(path, known), 1):
            if number == 1 and isinstance(value, list):
                self._width = len(value)
                self._named = _begun(str(column) for column in range(1, len(value) + 1))
            if self._width is not None:
                text = self._with_numbers(text, value)
            elif self._fault is None and not isinstance(value, dict):
                self._fault = self._no_object(f"{known}, row {number}", value)
            yield text

    def _with_numbers(self, text: str, value: object) -> str:
        if not isinstance(value, list):
            return f"[{text}]"  # refused as a row of one value
        if len(value) != self._width:
            return text
        return _object(self._named, value)

    def _no_object(self, where: str, value: object) -> InvalidData:
        if self._width is not None and isinstance(value, list):
            fields = wrong_count(len(value), self._width, "the first row")
            return InvalidData(f"{where}: {fields}.")
        return super()._no_object(where, value)


class JsonColumnsFile(_Copied):
    """One object of columns, which are objects by index or arrays: what ``df.to_json()`` writes."""

    def __init__(
        self, path: Path, layout: Layout, name: str | None = None, *, value: Object
    ) -> None:
        lines = _rows_of(value, name or text_files.shown(path))
        super().__init__(path, layout, name, lines)


def _rows_of(value: Object, known: str) -> Iterator[str]:
    columns = {name: its for name, its in value.items() if isinstance(its, dict | list)}
    for name, its in columns.items():
        _refuse_twice(its, f"{known}, column {name!r}")
    first = next(iter(columns.values()))
    index = list(first) if isinstance(first, dict) else None
    for name, its in columns.items():
        if (list(its) if isinstance(its, dict) else None) != index or len(its) != len(first):
            raise InvalidData(
                f"{known}, column {name!r}: has other rows than the first.", remedy=_REMEDY
            )
    values = [list(its.values() if isinstance(its, dict) else its) for its in columns.values()]
    names = list(columns)
    if index is not None and "" not in columns:
        # Without a name, as pandas writes an index into CSV.
        names.insert(0, "")
        values.insert(0, [Number(key) if _WHOLE.fullmatch(key) else key for key in index])
    for name, its in value.items():
        if name not in columns and headers.target_of(name) in LABELS:
            names.append(name)
            values.append([its] * len(first))
    begun = _begun(names)
    for row in zip(*values, strict=True):
        yield _object(begun, row)


def _refuse_twice(value: object, where: str) -> None:
    if isinstance(value, TwiceNamed):
        raise InvalidData(f"{where}: {value.name!r} is specified twice.")


def is_array(path: Path, known: str) -> bool:
    """Return whether a file of JSON begins with an array; what cannot be read is none.

    :raises InvalidData: it is no UTF-8.
    """
    begun = _beginning(path)
    if begun.startswith(_UTF_16) or b"\0" in begun[:2]:
        raise InvalidData(
            f"{known} is written as UTF-16, and JSON is UTF-8.", remedy="Write it again as UTF-8."
        )
    return begun.startswith(b"[")


def one_object(path: Path, known: str) -> Object | None:
    """Return the columns of a file that is one object of them; None if it has an object a line.

    :raises InvalidData: it is one object of something else.
    """
    if not _NESTED.match(_beginning(path)):
        return None
    value = _only_value(path, known)
    if not isinstance(value, dict):
        return None
    nested = {name for name, its in value.items() if isinstance(its, dict | list)}
    if any(headers.target_of(name) for name in nested):
        _refuse_twice(value, known)
    # What is said beside columns is said of all rows; a value of a row belongs to an object a line.
    if any(headers.target_of(name) not in (None, *LABELS) for name in value.keys() - nested):
        return None
    if not any(headers.target_of(name) for name in nested):
        within = [name for name in value if _is_of_rows(value[name])]
        told = f"Its rows may be those of {within[0]!r}: write that array alone. " if within else ""
        raise InvalidData(
            f"{known} is one JSON object, and not one of columns.", remedy=f"{told}{_REMEDY}"
        )
    return value


def _is_of_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict | list)


def _only_value(path: Path, known: str) -> object:
    """The value of the file; None where there are several, or none that can be read."""
    try:
        with text_files.opened(path) as file:
            line = file.readline(_LARGEST)
            rest = file.read(_SAMPLE)
            if line.rstrip(_BLANKS).endswith(b"}") and rest.strip(_BLANKS):
                return None  # an object a line
            rest += file.read(_LARGEST) if len(line) < _LARGEST else b""
        if len(line) == _LARGEST:
            size = f"{_LARGEST >> 20} MB"
            raise InvalidData(f"{known} has a line of more than {size}.", remedy=_REMEDY)
        if not rest.strip(_BLANKS):
            return DECODER.decode(line.decode("utf-8-sig"))
        # Written over several lines, unless the first is a value of its own.
        if line.rstrip(_BLANKS).endswith(b"}") or len(rest) == _LARGEST:
            return None
        return DECODER.decode((line + rest).decode("utf-8-sig"))
    except EOFError as exc:
        raise cut_off(known) from exc
    except (OSError, ValueError, RecursionError) as exc:
        if isinstance(exc, InvalidData):
            raise
        return None


def _beginning(path: Path) -> bytes:
    try:
        with text_files.opened(path) as file:
            return file.read(_SAMPLE).lstrip(codecs.BOM_UTF8 + _BLANKS)
    except (OSError, EOFError):
        return b""
