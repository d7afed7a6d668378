"""Merge the job files of a day into one; a crash at any moment loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jts_storage.domain.columns import concatenate, in_order
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.lake.files import FileFacts, read_series, sync_folder, write_file
from jts_storage.lake.layout import Partition


def compact(
    sources: Sequence[Path],
    target: Path,
    partition: Partition,
    compression: str,
    floats: Floats,
) -> bool:
    """Merge `sources` into `target`, which may be one of them, and delete the others.

    The caller holds the partition's lock. A crash before the swap leaves the old files, one after
    it leaves old files beside the new one, whose candles are the same.
    """
    if len(sources) < 2:
        return False
    read = sorted((read_series(path, floats) for path in sources), key=lambda r: r[1].age)
    series = _merged([series for series, _ in read], partition)
    facts = replace(
        FileFacts.about(series, partition, target.stem, _jobs([facts for _, facts in read])),
        # Not newer than the files it replaces: a job written meanwhile must win over it.
        written_ns=max(facts.written_ns for _, facts in read),
    )
    write_file(target, series, facts, compression, verify=True)
    # After the swap: a crash in between leaves the same candles twice, never none.
    for path in sources:
        if path != target:
            path.unlink(missing_ok=True)
    sync_folder(target.parent)
    return True


def _merged(parts: list[CandleSeries], partition: Partition) -> CandleSeries:
    keys = {part.key for part in parts}
    if len(keys) > 1:
        exchanges = ", ".join(sorted(repr(key.exchange) for key in keys))
        raise InvalidData(
            f"{partition} holds candles of several exchanges ({exchanges})",
            field="exchange",
            remedy="They cannot share a file; keep them in jobs of their own.",
        )
    columns, _ = in_order(concatenate([part.columns for part in parts]))
    return CandleSeries.trusted(keys.pop(), columns)


def _jobs(facts: Sequence[FileFacts]) -> tuple[str, ...]:
    return tuple(sorted({job for fact in facts for job in (fact.sources or (fact.job_id,))}))
