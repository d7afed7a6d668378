"""The names in a file of JSON lines, wherever they first occur."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

from jts_storage.readers import text_files

_NAME = re.compile(rb'"((?:[^"\\]|\\.)*)"[ \t]*:')
_BLANK_BEFORE_COLON = (b'" :', b'"\t:')
_COUNTED = 64
"""Names up to which counting them costs less than finding them."""
_OF_NUMBERS = b"0123456789.-+"


def first_lines(path: Path) -> Generator[tuple[int, bytes]]:
    """The lines that have a name which no line before had, with their numbers.

    A text may look like a name, so some lines come without need. No new name is missed, as long as
    names differ in more than digits.
    """
    seen: set[bytes] = set()
    shape: bytes | None = None
    before = 0
    for piece in text_files.whole_lines(path):
        last, shape = shape, _shape(piece)
        is_known = shape is not None and shape == last
        if not is_known and not _has_only(piece, seen):
            start, stop, number = 0, -1, before + 1
            for found in _NAME.finditer(piece):
                if found[1] in seen:
                    continue
                seen.add(found[1])
                # Once, however many names are new in it: a line may have thousands.
                if found.start() > stop:
                    begin, stop = _line_at(piece, found.start())
                    number += piece.count(b"\n", start, begin)
                    start = begin
                    yield number, piece[begin:stop]
        before += piece.count(b"\n")


def _shape(piece: bytes) -> bytes | None:
    """Return what all lines look like without their numbers; None if they do not look alike."""
    bare = piece.translate(None, _OF_NUMBERS)
    line = bare[: bare.find(b"\n") + 1]
    return line if bare == line * bare.count(b"\n") else None


def _has_only(piece: bytes, names: set[bytes]) -> bool:
    """Return whether there are no other names, by counting, which is faster than to find them."""
    if len(names) > _COUNTED or any(mark in piece for mark in _BLANK_BEFORE_COLON):
        return False
    return piece.count(b'":') == sum(piece.count(b'"%b":' % name) for name in names)


def _line_at(piece: bytes, at: int) -> tuple[int, int]:
    """Where the line begins and ends."""
    end = piece.find(b"\n", at)
    return piece.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(piece)
