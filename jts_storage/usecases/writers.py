"""Write series into files, a block at a time, with prices as exact decimals."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jts_storage.domain.arrow import ROW_GROUP_ROWS, candle_schema, parquet_options
from jts_storage.domain.columns import NAMES, PRICES
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.readers import text_files
from jts_storage.readers.sources import format_of


class _StaysOpen:
    """A file of the caller's, which Arrow would close."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        self._file.flush()


class Writer:
    """Writes blocks into the file `half`, which is opened when the writer is entered.

    :param half: a path, or a file that is open and stays so.
    """

    def __init__(self, half: Path | IO[bytes], target: Path) -> None:
        self._half = half
        self._target = target
        self._compression = text_files.compression_of(target)
        self._open = ExitStack()

    async def write(self, series: CandleSeries) -> None:
        await asyncio.to_thread(self._write, series.to_arrow())

    def __enter__(self) -> Self:
        try:
            self._start()
        except OSError as exc:
            raise InvalidData(
                f"{self._target.parent} cannot be written to: {exc.strerror}.",
                remedy="Choose another path.",
            ) from exc
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _start(self) -> None:
        raise NotImplementedError

    def _write(self, table: Any) -> None:
        raise NotImplementedError

    def _sink(self) -> Any:
        raw = self._open.enter_context(self._raw())
        if self._compression is None:
            return raw
        return self._open.enter_context(pa.CompressedOutputStream(raw, self._compression))

    def _raw(self) -> Any:
        if isinstance(self._half, Path):
            return pa.OSFile(str(self._half), "wb")
        return pa.PythonFile(_StaysOpen(self._half), "w")


class _CsvWriter(Writer):
    def _start(self) -> None:
        self._out = self._sink()
        self._delimiter = "\t" if text_files.suffix_of(self._target) == ".tsv" else ","
        self._out.write((self._delimiter.join(NAMES) + "\n").encode())

    def _write(self, table: Any) -> None:
        columns = _as_text(table)
        self._out.write(_joined_lines(pc.binary_join_element_wise(*columns, self._delimiter)))


class _JsonLinesWriter(Writer):
    def _start(self) -> None:
        self._out = self._sink()

    def _write(self, table: Any) -> None:
        moment, *prices, volume = _as_text(table)
        pieces: list[Any] = [pa.scalar('{"timestamp":"'), moment]
        for name, column in zip(PRICES, prices, strict=True):
            pieces += [pa.scalar(f'","{name}":"'), column]
        pieces += [pa.scalar('","volume":'), volume, pa.scalar("}")]
        self._out.write(_joined_lines(pc.binary_join_element_wise(*pieces, "")))


class _ParquetWriter(Writer):
    def _start(self) -> None:
        self._out = self._open.enter_context(
            pq.ParquetWriter(
                self._open.enter_context(self._raw()),
                candle_schema(),
                **parquet_options(),
            )
        )

    def _write(self, table: Any) -> None:
        self._out.write_table(table, row_group_size=ROW_GROUP_ROWS)


class _ArrowWriter(Writer):
    def _start(self) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._out = self._open.enter_context(
            pa.ipc.new_file(self._sink(), candle_schema(), options=options)
        )

    def _write(self, table: Any) -> None:
        self._out.write_table(table, max_chunksize=ROW_GROUP_ROWS)


_WRITERS: dict[str, type[Writer]] = {
    "csv": _CsvWriter,
    "jsonl": _JsonLinesWriter,
    "parquet": _ParquetWriter,
    "arrow": _ArrowWriter,
}


def open_writer(half: Path | IO[bytes], target: Path) -> Writer:
    """Return a writer for the format that the suffix of `target` stands for.

    :raises InvalidData: it stands for none.
    """
    return _WRITERS[format_of(target)](half, target)


def _as_text(table: Any) -> list[Any]:
    # Milliseconds need no zone database to be written in UTC, so the zone is named afterwards.
    moment = table["timestamp"].cast(pa.timestamp("ms")).cast(pa.string())
    moment = pc.binary_join_element_wise(pc.replace_substring(moment, " ", "T"), pa.scalar("Z"), "")
    return [moment, *(table[name].cast(pa.string()) for name in NAMES[1:])]


def _joined_lines(lines: Any) -> Any:
    """The lines as one buffer, each with its end."""
    # The texts of an Arrow array lie one after the other in one buffer, which can be written as
    # it is: no row becomes a Python object.
    ended = pc.binary_join_element_wise(lines, pa.scalar("\n"), "").combine_chunks()
    if isinstance(ended, pa.ChunkedArray):
        ended = pa.concat_arrays(ended.chunks)
    if not len(ended):
        return b""
    _, offsets, data = ended.buffers()
    ends = pa.Array.from_buffers(pa.int32(), len(ended) + 1, [None, offsets], offset=ended.offset)
    first = ends[0].as_py()
    return data.slice(first, ends[len(ended)].as_py() - first)
