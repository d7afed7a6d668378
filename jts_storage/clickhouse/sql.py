"""Classify SQL statements before they are sent, and quote names and values for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from jts_storage.clickhouse.driver_internals import escape_param

# What may come before the first word: blanks, comments, and opening brackets.
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*", re.DOTALL)
IDENTIFIER = r"(?:`(?:[^`\\]|\\.|``)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_INSERT = re.compile(
    rf"INSERT\s+INTO\s+(?:TABLE\s+)?(?P<table>{IDENTIFIER}(?:\.{IDENTIFIER})?)"
    rf"\s*(?:\((?P<columns>[^()]*)\))?",
    re.IGNORECASE,
)
_NAME = re.compile(IDENTIFIER)
_MAY_WRITE = re.compile(r";\s*[^\s;]|\b(?:INSERT|PARALLEL)\b", re.IGNORECASE)
_NESTED_COMMENT = re.compile(r"/\*(?:(?!\*/).)*/\*", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN"})


def first_word(statement: str) -> str:
    """The word that says what kind of statement it is, in capitals."""
    begin = _COMMENTS.match(statement)
    rest = statement[begin.end() :] if begin else statement
    word = re.match(r"\w+", rest)
    return word[0].upper() if word else ""


def only_reads(statement: str) -> bool:
    """Return whether the statement, as it is sent, surely changes nothing, however often it runs.

    ``WITH ... INSERT`` writes, and the embedded engine runs what follows a semicolon. It nests
    comments, too: what seems to begin with SELECT may be the end of one.
    """
    if _MAY_WRITE.search(statement) or _NESTED_COMMENT.search(statement):
        return False
    return first_word(statement) in _READS


def is_select(statement: str) -> bool:
    return first_word(statement) in {"SELECT", "WITH"}


def insert_target(statement: str) -> tuple[str, list[str]]:
    """Table, as written, and names of the columns of an INSERT; no names mean all columns.

    :raises ValueError: for any other statement.
    """
    begin = _COMMENTS.match(statement)
    found = _INSERT.match(statement, begin.end() if begin else 0)
    if found is None:
        raise ValueError(f"not an INSERT with a table's name: {statement[:80]!r}")
    names = [bare(name) for name in _NAME.findall(found["columns"] or "")]
    return found["table"], names


def bare(identifier: str) -> str:
    """An identifier without its quotes."""
    if identifier[:1] in {"`", '"'}:
        inner = identifier[1:-1].replace("``", "`")
        return re.sub(r"\\(.)", r"\1", inner)
    return identifier


def bare_table(named: str) -> str | None:
    """Return the name of a table, as SQL names it, without its database; None if it is no name,
    or one with escapes.
    """
    if "\\" in named or re.fullmatch(rf"{IDENTIFIER}(?:\.{IDENTIFIER})?", named) is None:
        return None
    return bare(_NAME.findall(named)[-1])


def quoted(name: str) -> str:
    """An identifier as SQL writes it."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value: Any) -> str:
    """A text, number, flag, moment, date or None as SQL writes it, money exactly."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Decimal):
        # A bare number would be read as a float.
        exponent = value.as_tuple().exponent
        return f"toDecimal128('{value:f}', {max(0, -int(exponent))})"
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return f"toDate32('{value.isoformat()}')"
    return str(escape_param(value, None))


def _moment(value: datetime) -> str:
    microseconds = (value - _EPOCH) // timedelta(microseconds=1)
    if microseconds % 1000:
        return f"fromUnixTimestamp64Micro(toInt64({microseconds}), 'UTC')"
    return f"fromUnixTimestamp64Milli(toInt64({microseconds // 1000}), 'UTC')"


def insert_into(table: str, names: Iterable[str]) -> str:
    """The beginning of an INSERT of these columns into a table named as SQL names it."""
    return f"INSERT INTO {table} ({', '.join(map(quoted, names))})"


def summary(query: str) -> str:
    """The statement's beginning, for messages, without the texts in it."""
    line = re.sub(r"'(?:[^'\\]|\\.)*'", "'...'", " ".join(query[:1000].split()))
    return f"`{line[:60]}...`" if len(line) > 60 else f"`{line}`"
