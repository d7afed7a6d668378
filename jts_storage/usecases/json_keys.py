"""The names that occur in a file of JSON lines, wherever in it they begin to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jts_storage.usecases import text_files

_QUOTE, _COLON = b'":'
_BLANKS = b" \t"
_WIDTH = 16
"""As many bytes before a colon tell one name from another."""
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def first_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines on which a name stands that no line before had, with their numbers.

    A line may be given in vain, but none is missed: names are compared as bytes, a large piece of
    the file at a time, by what stands before each colon.
    """
    seen: set[int] = set()
    before = 0
    for piece in text_files.whole_lines(path):
        letters = np.frombuffer(piece, np.uint8)
        ends = _ends_of_names(letters)
        if len(ends):
            prints = _fingerprints(letters, ends)
            new = np.ones(len(ends), np.bool_)
            for known in seen:
                new &= prints != known
            found, first = np.unique(prints[new], return_index=True)
            seen.update(found.tolist())
            yield from _lines_at(piece, ends[new][first].tolist(), before)
        before += piece.count(b"\n")


def _ends_of_names(letters: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Where the quotes stand that end names (and those in texts that look as if they did)."""
    ends = np.flatnonzero(letters == _COLON) - 1
    ends = ends[ends >= 0]
    while len(spaced := np.flatnonzero(np.isin(letters[ends], list(_BLANKS)) & (ends > 0))):
        ends[spaced] -= 1
    quoted: npt.NDArray[np.int64] = ends[letters[ends] == _QUOTE]
    return quoted


def _fingerprints(
    letters: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """A number for each name: of its length and the last of its bytes."""
    quotes = np.flatnonzero(letters == _QUOTE)
    at = np.searchsorted(quotes, ends)
    lengths = ends - np.where(at, quotes[at - 1], -1) - 1
    padded = np.concatenate([np.zeros(_WIDTH, np.uint8), letters])
    names = np.lib.stride_tricks.sliding_window_view(padded, _WIDTH)[ends]
    names[np.arange(_WIDTH, 0, -1) > lengths[:, None]] = 0
    words = np.column_stack([names.view(np.uint64), lengths.astype(np.uint64)])
    prints: npt.NDArray[np.uint64] = (words * _FACTORS).sum(axis=1, dtype=np.uint64)
    return prints


def _lines_at(piece: bytes, places: list[int], before: int) -> Iterator[tuple[int, bytes]]:
    for place in sorted(places):
        start = piece.rfind(b"\n", 0, place) + 1
        end = piece.find(b"\n", place)
        yield (
            before + piece.count(b"\n", 0, start) + 1,
            piece[start : end if end >= 0 else len(piece)],
        )
