"""Appends millions of ticks in blocks, reads them back by stream, and says what that took.

Run as a process: `python ticking_service.py FOLDER MILLIONS`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage import Storage, StorageSettings
from tests.declared import ticks

BLOCK = 1_000_000
SYMBOLS_A_BLOCK = 10
FIRST = 1_700_000_000_000


class Fingerprint:
    """What tells columns from any other ones, in whatever pieces they come."""

    def __init__(self) -> None:
        self._hashes = {name: blake2b(digest_size=16) for name in ticks.schema.names}
        self.rows = self.volume = 0
        self.prices = pa.scalar(0, pa.decimal128(38, 4)).as_py()

    def add(self, rows: pa.Table) -> None:
        if rows.schema != ticks.schema:
            raise TypeError(rows.schema)
        for name, digest in self._hashes.items():
            for chunk in rows.column(name).chunks:
                digest.update(_words(chunk))
        self.rows += rows.num_rows
        self.volume += pc.sum(rows.column("size")).as_py()
        self.prices += pc.sum(rows.column("price").cast(pa.decimal128(38, 4))).as_py()

    def as_plain(self) -> dict[str, object]:
        hashes = {name: digest.hexdigest() for name, digest in self._hashes.items()}
        return {**hashes, "rows": self.rows, "volume": self.volume, "prices": str(self.prices)}


def _words(chunk: pa.Array) -> bytes:
    """The values as bytes; texts by their numbers, which all have as many digits."""
    if pa.types.is_string(chunk.type):
        return "".join(chunk.to_pylist()).encode()
    if pa.types.is_decimal(chunk.type):
        start, stop = 16 * chunk.offset, 16 * (chunk.offset + len(chunk))
        return bytes(chunk.buffers()[1][start:stop])
    return bytes(pc.cast(chunk, pa.int64()).to_numpy().tobytes())


def blocks(millions: int) -> Iterator[pa.Table]:
    """Ticks in order of their key, of which each is another."""
    each = BLOCK // SYMBOLS_A_BLOCK
    for number in range(millions):
        rng = np.random.default_rng(number)
        names = [f"S{number * SYMBOLS_A_BLOCK + n:05}" for n in range(SYMBOLS_A_BLOCK)]
        stamps = [FIRST + np.cumsum(rng.integers(1, 900, each)) for _ in names]
        prices = np.zeros((BLOCK, 2), np.int64)
        prices[:, 0] = rng.integers(10_000, 900_000_000_000, BLOCK)
        buffers = [None, pa.py_buffer(prices)]
        columns = [
            pa.array(np.repeat(names, each)),
            pa.array(np.concatenate(stamps)).view(pa.timestamp("ms", "UTC")),
            pa.Array.from_buffers(pa.decimal128(18, 4), BLOCK, buffers),
            pa.array(rng.integers(1, 2**40, BLOCK).astype(np.uint64)),
        ]
        yield pa.Table.from_arrays(columns, schema=ticks.schema)


async def run(folder: Path, millions: int) -> dict[str, object]:
    given, found = Fingerprint(), Fingerprint()
    appending = reading = 0.0
    async with Storage.open(StorageSettings(data_dir=folder), models=[ticks]) as storage:
        opened = peak()
        for rows in blocks(millions):
            given.add(rows)
            begin = time.perf_counter()
            async with storage.unit_of_work() as uow:
                await uow.repository(ticks).append(rows)
                await uow.commit()
            appending += time.perf_counter() - begin
        appended = peak()
        begin = time.perf_counter()
        async for block in storage.repository(ticks).stream():
            reading += time.perf_counter() - begin
            found.add(block)
            begin = time.perf_counter()
    return {
        "given": given.as_plain(),
        "found": found.as_plain(),
        "seconds": {"appending": round(appending, 2), "reading": round(reading, 2)},
        "peak_mib": {"opened": opened, "appended": appended, "read": peak()},
    }


def peak() -> int:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    folder, millions = Path(sys.argv[1]), int(sys.argv[2])
    print(json.dumps(asyncio.run(run(folder, millions))))


if __name__ == "__main__":
    main()
