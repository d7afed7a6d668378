"""What a statement of a person must not say, whatever it reads."""

from __future__ import annotations

import re
from typing import Final

from jts_storage.errors import InvalidData

_WRITES_A_FILE: Final = re.compile(r"\bOUTFILE\b", re.IGNORECASE)
_FORMAT: Final = re.compile(
    r"\bFORMAT\s+\w+\s*(?:\bSETTINGS\b.*)?;?\s*\Z", re.IGNORECASE | re.DOTALL
)
_TEXT: Final = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    r"|(?P<comment>--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)",
    re.DOTALL,
)
"""What a statement says literally, and its comments: neither is a clause of it."""


def check_statement(statement: str) -> None:
    """:raises InvalidData: it says how or where its result is written."""
    clauses = _clauses(statement)
    if _WRITES_A_FILE.search(clauses):
        raise writes()
    if _FORMAT.search(clauses):
        raise InvalidData("must name no format", field="statement", remedy="Use --csv or --json.")


def writes() -> InvalidData:
    return InvalidData("must be one statement that only reads", field="statement")


def _clauses(statement: str) -> str:
    """The statement without its comments, and with nothing between quotes."""
    return _TEXT.sub(lambda found: " " if found["comment"] else "''", statement).strip()
