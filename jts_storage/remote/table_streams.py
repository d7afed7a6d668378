"""Streams of the rows of tables that go on behind the last row when a gateway was lost."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
from sqlalchemy import ColumnElement

from jts_storage.models.columns import rows_of
from jts_storage.models.conditions import behind
from jts_storage.models.tables import AnyTable

_MOST: Final = 20
"""So often in a row a stream goes on without a new row."""


class Progress:
    """How far a stream has come; its rows are in the order of the table's sort key."""

    def __init__(self, model: AnyTable[Any], where: ColumnElement[bool] | None) -> None:
        self._model, self._where = model, where
        self._key = list(model.sort_key)
        self._last: tuple[Any, ...] | None = None
        self._held: pa.Table | None = None
        """Rows of a table that appends, of a key of which more may come: after a break all of that
        key are read again, since nothing says which of them had come."""

        self._failures = 0

    @property
    def where(self) -> ColumnElement[bool] | None:
        """The condition for what is left."""
        if self._last is None:
            return self._where
        rest = behind(self._model.table, self._key, self._last)
        return rest if self._where is None else self._where & rest

    def new(self, block: pa.Table) -> pa.Table:
        """What of the next block, and of what was held before, the reader may have."""
        self._failures = 0
        found = block if self._held is None else pa.concat_tables([self._held, block])
        count = found.num_rows
        if self._model.mode == "append":
            count -= self._rows_of_last_key(found)
            self._held = found.slice(count)
        if count:
            (last,) = rows_of(found.select(self._key).slice(count - 1, 1))
            self._last = tuple(last[name] for name in self._key)
        return found.slice(0, count)

    def rest(self) -> pa.Table | None:
        """What is left when the stream has ended."""
        return self._held

    def goes_on(self) -> bool:
        """Whether to ask for the rest after a break."""
        self._failures += 1
        self._held = None
        # A float may be no number, and lies behind nothing.
        is_ordered = not any(
            pa.types.is_floating(self._model.schema.field(name).type) for name in self._key
        )
        return is_ordered and self._failures <= _MOST

    def _rows_of_last_key(self, rows: pa.Table) -> int:
        import pyarrow.compute as pc

        if not rows.num_rows:
            return 0
        same: Any = None
        for name in self._key:
            column = rows.column(name)
            equal = pc.equal(column, column[rows.num_rows - 1])
            same = equal if same is None else pc.and_(same, equal)
        return int(pc.sum(same).as_py())
