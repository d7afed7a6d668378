"""What a CREATE TABLE says, as the compiler writes it or as the server does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from jts_storage.clickhouse.sql import bare

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'`\""
_CLAUSES: Final = (
    "ENGINE =",
    "PARTITION BY",
    "PRIMARY KEY",
    "ORDER BY",
    "SAMPLE BY",
    "TTL",
    "SETTINGS",
    "COMMENT",
)
COLUMN_PARTS: Final = (
    "DEFAULT",
    "MATERIALIZED",
    "EPHEMERAL",
    "ALIAS",
    "CODEC",
    "TTL",
    "STATISTICS",
    "SETTINGS",
)
_EXTRAS: Final = ("INDEX", "CONSTRAINT", "PROJECTION")
_SYNONYMS: Final = {
    "Decimal64(4)": "Decimal(18, 4)",
}


@dataclass(frozen=True, slots=True)
class ColumnText:
    """A column of a CREATE TABLE.

    :param parts: what follows the type, by its first word.
    :param definition: all of it, as ALTER TABLE takes it.
    """

    type: str
    parts: Mapping[str, str]
    definition: str


@dataclass(frozen=True, slots=True)
class TableText:
    """What a CREATE TABLE says.

    :param extras: indexes, constraints and projections, by kind and name.
    :param clauses: what follows the columns, by its first words.
    :param is_view: whether it has no rows of its own.
    """

    columns: Mapping[str, ColumnText]
    extras: Mapping[str, str] = field(default_factory=dict)
    clauses: Mapping[str, str] = field(default_factory=dict)
    is_view: bool = False


def parse(create: str) -> TableText:
    """Read a CREATE TABLE, as the compiler writes it or as the server does."""
    text = " ".join(create.split())
    opening = text.index("(")
    closing = _closing(text, opening)
    columns: dict[str, ColumnText] = {}
    extras: dict[str, str] = {}
    for item in items(text[opening + 1 : closing]):
        first, _, rest = item.partition(" ")
        if first in _EXTRAS:
            extra, _, definition = rest.partition(" ")
            extras[f"{first.lower()} {bare(extra)}"] = definition
        else:
            columns[bare(first)] = _column(rest)
    is_view = " VIEW " in text[:opening]
    return TableText(columns, extras, _split(text[closing + 1 :], _CLAUSES), is_view)


def _column(rest: str) -> ColumnText:
    rest = rest.removesuffix(" NOT NULL")
    parts = _split(rest, (*COLUMN_PARTS, "COMMENT"))
    kind = rest
    # From the end, until the type is left.
    for part, text in reversed(parts.items()):
        kind = kind.removesuffix(text).rstrip().removesuffix(part).rstrip()
    kind = _SYNONYMS.get(kind, kind)
    return ColumnText(kind, parts, rest)


def _split(text: str, heads: tuple[str, ...]) -> dict[str, str]:
    """Return what follows each head, up to the next; none count in brackets and quotes."""
    found = [
        (index, head)
        for index, _, depth in _scan(text)
        if depth == 0 and (index == 0 or text[index - 1] == " ")
        for head in heads
        if text.startswith(head, index) and text[index + len(head) :][:1] in {" ", "(", ""}
    ]
    ends = [*(at for at, _ in found[1:]), len(text)]
    return {
        head: text[at + len(head) : end].strip()
        for (at, head), end in zip(found, ends, strict=False)
    }


def items(text: str) -> Iterator[str]:
    """What stands between the commas that are in no brackets and no quotes."""
    begin = 0
    for index, char, depth in _scan(text):
        if char == "," and depth == 0:
            yield text[begin:index].strip()
            begin = index + 1
    if last := text[begin:].strip():
        yield last


def _closing(text: str, opening: int) -> int:
    """Return where the bracket that opens there is closed."""
    for index, char, depth in _scan(text, opening):
        if char in _CLOSING and depth == 0:
            return index
    raise ValueError(f"a bracket is not closed: {text[:80]!r}")


def _scan(text: str, start: int = 0) -> Iterator[tuple[int, str, int]]:
    """Each character that is in no quotes, and how many brackets are open at it."""
    depth, quote, index = 0, "", start
    while index < len(text):
        char = text[index]
        if quote:
            # An escaped quote does not end the text.
            index += 1 if char == "\\" else 0
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        else:
            depth -= char in _CLOSING
            yield index, char, depth
            depth += char in _OPENING
        index += 1
