"""Files of columns as sources of rows: Parquet, and Arrow's own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from jts_storage.domain.arrow import open_parquet
from jts_storage.readers.file_source import FileSource, readable
from jts_storage.readers.rows import BrokenRow

_BATCH_ROWS = 131_072


class ParquetFile(FileSource):
    """Parquet, a batch of rows at a time."""

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        return self._tables(None)

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        return self._tables(targets)

    def _tables(self, wanted: Collection[str] | None) -> Iterator[Any]:
        with readable(self.name), open_parquet(self.path) as file:
            targets = _only(self._targets(file.schema_arrow.names), wanted)
            total = max(file.metadata.num_rows, 1)
            done = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(targets.values())):
                done += batch.num_rows
                self._read = self._size * done // total
                table = pa.Table.from_batches([batch])
                yield table.select(list(targets.values())).rename_columns(list(targets))

    def _names(self) -> list[str]:
        with open_parquet(self.path) as file:
            return list(file.schema_arrow.names)


class ArrowFile(FileSource):
    """Arrow IPC: a Feather file, or a stream."""

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        return self._tables(None)

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        return self._tables(targets)

    def _tables(self, wanted: Collection[str] | None) -> Iterator[Any]:
        with readable(self.name), pa.memory_map(os.fsencode(self.path)) as file:
            for batch in self._batches(file):
                targets = _only(self._targets(batch.schema.names), wanted)
                table = pa.Table.from_batches([batch])
                self._read = file.tell()
                yield table.select(list(targets.values())).rename_columns(list(targets))
        self._read = self._size

    def _batches(self, file: Any) -> Iterator[Any]:
        if file.read(6) == b"ARROW1":
            file.seek(0)
            with pa.ipc.open_file(file) as reader:
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
        else:
            file.seek(0)
            with pa.ipc.open_stream(file) as reader:
                yield from reader

    def _names(self) -> list[str]:
        with pa.memory_map(os.fsencode(self.path)) as file:
            return list(next(self._batches(file)).schema.names)


def _only(targets: dict[str, str], wanted: Collection[str] | None) -> dict[str, str]:
    return {name: its for name, its in targets.items() if wanted is None or name in wanted}
