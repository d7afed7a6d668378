"""What may be wrong with the header of a CSV file that does not fit its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from jts_storage._runtime.surface import columns_without_header, layout_option
from jts_storage.errors import InvalidData
from jts_storage.readers import headers, text_files
from jts_storage.readers.file_source import MOST_SKIPPED, Layout
from jts_storage.readers.text_files import DELIMITERS, Record, TextFormat

_LOOKED_AT: Final = 50
_MOMENTS: Final = {"timestamp", "date", "time"}


class Remedy(NamedTuple):
    """What helps, and the fields of the layout that it names."""

    text: str
    proposed: Mapping[str, Any]


def remedy(path: Path, form: TextFormat, layout: Layout) -> Remedy | None:
    """What helps where lines stand above the header, or where a column has no name in it."""
    try:
        rows = text_files.first_records(path, form, _LOOKED_AT)
        if form.has_header and (columns := _shifted(rows, layout)):
            above = rows[0].last
            said = columns_without_header(above, columns)
            return Remedy(
                f"Every row has one field more than the header; say {said}.",
                {"skip_lines": above, "header": False, "columns": columns},
            )
        lines = _lines_above(path, form, layout)
    except (InvalidData, OSError, EOFError):  # told by who reads the rows
        return None
    if lines is None or lines > MOST_SKIPPED:
        return None
    return Remedy(
        "What stands above has fewer fields than the lines that follow; "
        f"{layout_option('skip_lines', lines)} leaves it out.",
        {"skip_lines": lines},
    )


def _shifted(rows: Sequence[Record], layout: Layout) -> dict[str, str]:
    """The number of each column, where every row has one field more than the header.

    It is an index without a name, in front, unless it is empty: then a delimiter ends each row.
    """
    header, *others = rows
    if not others or {len(row.fields) for row in others} != {len(header.fields) + 1}:
        return {}
    first = int(any(row.fields[-1] for row in others)) + 1
    said = {name: target for target, name in layout.columns.items()}
    found: dict[str, str] = {}
    for number, name in enumerate(header.fields, first):
        target = said.get(name.strip()) or headers.target_of(name)
        if target is not None and layout.columns.get(target) != "":
            found.setdefault(target, str(number))
    if not found or _MOMENTS & found.keys():
        return found
    return {"timestamp": "1"} | found if first > 1 else {}


def _lines_above(path: Path, form: TextFormat, layout: Layout) -> int | None:
    """How many lines stand above the first of those that have as many fields as all that follow."""
    found: list[tuple[int, int]] = []
    for delimiter in (layout.delimiter,) if layout.delimiter else DELIMITERS:
        rows = text_files.first_records(path, replace(form, delimiter=delimiter), _LOOKED_AT)
        width = len(rows[-1].fields)
        alike = next(
            n for n, row in enumerate(rows) if all(len(r.fields) == width for r in rows[n:])
        )
        is_above = all(len(row.fields) < width for row in rows[:alike])
        if alike and is_above and len(rows) - alike > 1:
            found.append((width, rows[alike].line - 1))
    return max(found)[1] if found else None
