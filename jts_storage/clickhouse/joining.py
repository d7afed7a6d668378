"""Concatenate blocks into one contiguous array per column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jts_storage.clickhouse.blocks import Array, ArraysByName, ColumnBlock, DictionaryColumn
from jts_storage.clickhouse.memory import give_back, new_arrays, rows_that_fit

_ROOM_FOR_MANY = 1 << 20  # rows, once there is more than one block; what stays untouched is free
_SPARE_SHIFT = 3  # an eighth of a column may stay unused at its end


def joined(blocks: Iterable[ColumnBlock], *, dictionaries: bool = False) -> ArraysByName:
    """The blocks' columns, each in one piece of memory of its own.

    A block is copied before the next is asked for: its memory may then go, and is best filled anew
    while it is in the processor's cache.

    :param dictionaries: give columns that came as dictionaries as one `DictionaryColumn` each.
    """
    joining = _Joining(dictionaries)
    for block in blocks:
        joining.add(block)
    return joining.columns()


class _Joining:
    """Columns that grow block by block."""

    def __init__(self, dictionaries: bool) -> None:
        self._keeps_dictionaries = dictionaries
        self._names: tuple[str, ...] = ()
        self._arrays: list[Array] = []
        self._words: dict[int, dict[str, int]] = {}
        self._rows = self._room = 0
        self._is_empty = True

    def add(self, block: ColumnBlock) -> None:
        # The first and the last block of a connection have no rows, the last no columns either.
        if not block.num_rows and self._names:
            return
        self._names = self._names or block.names
        pieces = [self._piece(place, each) for place, each in enumerate(block.arrays)]
        end = self._rows + block.num_rows
        if self._is_empty:
            self._arrays, self._room = new_arrays([each.dtype for each in pieces], end), end
            self._is_empty = not end
        elif end > self._room:
            many = min(_ROOM_FOR_MANY, rows_that_fit([each.dtype for each in pieces]))
            self._room = max(end, 2 * self._room, many)
            _move(self._arrays, self._rows, self._room)
        for array, piece in zip(self._arrays, pieces, strict=True):
            array[self._rows : end] = piece
        self._rows = end

    def columns(self) -> ArraysByName:
        rows = self._rows
        if self._room - rows > rows >> _SPARE_SHIFT and not give_back(self._arrays, rows):
            _move(self._arrays, rows, rows)
        return {name: self._column(place) for place, name in enumerate(self._names)}

    def _piece(self, place: int, piece: Any) -> Array:
        if not isinstance(piece, DictionaryColumn):
            array: Array = piece
            return array
        if not self._keeps_dictionaries:
            return piece.to_array()
        # Each block has a dictionary of its own.
        words = self._words.setdefault(place, {})
        numbers = (words.setdefault(word, len(words)) for word in piece.dictionary)
        return np.fromiter(numbers, np.dtype("<u4"), len(piece.dictionary))[piece.keys]

    def _column(self, place: int) -> Any:
        array = self._arrays[place][: self._rows]
        words = self._words.get(place)
        return array if words is None else DictionaryColumn(tuple(words), array)


def _move(arrays: list[Array], rows: int, room: int) -> None:
    """Put new arrays in the place of these, one after the other, so that each may go at once."""
    for place, target in enumerate(new_arrays([array.dtype for array in arrays], room)):
        target[:rows] = arrays[place][:rows]
        arrays[place] = target
