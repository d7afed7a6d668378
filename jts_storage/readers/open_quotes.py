"""Find quotes of a CSV file that are opened and not closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jts_storage.domain.columns import AnyArray
from jts_storage.readers.text_files import TextFormat, whole_lines

_QUOTE, _NEWLINE = b'"\n'


def first_open_quote(path: Path, form: TextFormat) -> int | None:
    """The line on which a quote is opened that would swallow whole rows, or all that follows.

    A text may have line breaks, but no line in it has as many delimiters as a row.
    """
    if not form.is_bytewise:
        return None
    delimiter = form.delimiter.encode()
    opened_on: int | None = None
    before = 0
    for piece in whole_lines(path):
        if opened_on is None and b'"' not in piece:
            before += piece.count(b"\n")
            continue
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == _NEWLINE)
        if opened_on is None and not _has_odd_line(piece, ends):
            before += len(ends)
            continue
        for number, line in enumerate(piece.splitlines(), start=before + 1):
            if number <= form.skipped:
                continue
            if line.count(b'"') % 2:
                is_begun = opened_on is None and _leaves_open(line, delimiter)
                opened_on = number if is_begun else None
            elif opened_on is not None and line.count(delimiter) >= len(form.headers) - 1:
                return opened_on
        before += len(ends)
    return opened_on


def _has_odd_line(piece: bytes, ends: AnyArray) -> bool:
    """Return whether some line has an odd number of quotes.

    :param ends: where its lines end.
    """
    quotes = np.flatnonzero(np.frombuffer(piece, np.uint8) == _QUOTE)
    each, rest = divmod(len(quotes), max(len(ends), 1))
    if piece.endswith(b"\n") and not (each % 2 or rest):
        # Most often every line has as many as the others, which costs less to see than to count.
        of_lines = quotes.reshape(len(ends), each)
        if (of_lines[:, -1] < ends).all() and (of_lines[1:, 0] > ends[:-1]).all():
            return False
    counted = np.searchsorted(quotes, np.append(ends, len(piece)))
    return bool((np.diff(counted, prepend=0) & 1).any())


def _leaves_open(line: bytes, delimiter: bytes) -> bool:
    """Return whether the line ends within quotes; one in the middle of a field does not count."""
    at = 0
    while True:
        if line[at : at + 1] == b'"':
            at = line.find(b'"', at + 1)
            while at >= 0 and line[at + 1 : at + 2] == b'"':
                at = line.find(b'"', at + 2)
            if at < 0:
                return True
        at = line.find(delimiter, at)
        if at < 0:
            return False
        at += 1
