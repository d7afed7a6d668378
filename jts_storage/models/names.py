"""Names of tables and columns that every store and every statement of the kit takes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from sqlalchemy import Table

from jts_storage.errors import InvalidConfiguration

GONE, BASE, READ = "_gone", "_base", "_read"
"""In what a commit does with keys: whether the row is deleted, and the version and the digest of
the row that was read. The version alone would not tell a record that was deleted and made anew."""

_WORD: Final = re.compile(r"[^\W\d]\w*")
_LONGEST: Final = 63
"""Bytes of a name in PostgreSQL, which cuts what is longer."""

_RESERVED: Final = frozenset({GONE, BASE, READ, "_row_exists"})
"""What the kit adds to rows within a commit, and ClickHouse to those that it deletes."""

_LOCAL: Final = "_local"


def check_names(table: Table, *, ignoring_case: bool) -> None:
    """
    :param ignoring_case: whether two names may not differ by capitals alone, as in SQLite.
    :raises InvalidConfiguration: a statement with such a name would fail, or mean another column.
    """
    _check_word(f"table {table.name!r}", table.name)
    for column in table.columns:
        for name in {column.name, column.key}:
            what = f"column {name!r} of {table.name}"
            _check_word(what, name)
            if name in _RESERVED:
                raise InvalidConfiguration(
                    f"{what} has a name that the kit itself uses", remedy="Choose another one."
                )
    names = [str(column.name) for column in table.columns]
    counted = Counter(name.lower() if ignoring_case else name for name in names)
    doubled = [name for name, count in counted.items() if count > 1]
    if doubled:
        raise InvalidConfiguration(
            f"table {table.name} has two columns called {doubled[0]!r}", remedy="Rename one."
        )


def _check_word(what: str, name: str) -> None:
    if not _WORD.fullmatch(name) or len(name.encode()) > _LONGEST:
        raise InvalidConfiguration(
            f"{what} has a name that not every statement takes",
            remedy=f"Use letters, digits and _, a letter or _ first, at most {_LONGEST} bytes.",
        )


def local_of(name: str) -> str | None:
    """The table whose rows a table of this name would hold on each server of a cluster."""
    return name.removesuffix(_LOCAL) if name.endswith(_LOCAL) else None
