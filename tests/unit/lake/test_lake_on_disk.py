"""What is acknowledged is on disk: what is made lasting, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.lake import DamagedFile, ParquetStorageEngine, files
from jts_storage.lake.layout import TEMPORARY, Partition
from jts_storage.testing.factories import make_candles

DAY = date(2024, 1, 2)
KEY = SeriesKey("AAPL", Timeframe.M1)


@dataclass
class Disk:
    """What a power cut would leave: the files and the folder entries that were made lasting.

    A file lasts with the bytes it had when it was synced, under any name it is given later. A name
    in a folder, or its absence, lasts once the folder was synced.
    """

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    folders: dict[Path, dict[str, int]] = field(default_factory=dict)

    def sync(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self.folders[path] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self.contents[os.fstat(handle).st_ino] = path.read_bytes()

    def holds(self, path: Path) -> bool:
        """Whether it would be found, from the root down, with all of its bytes."""
        within = path.relative_to(self.root)
        folders = [self.root / parent for parent in within.parents]
        reached = [self.root, *reversed(folders[:-1]), path]
        entries = all(
            self.folders.get(folder, {}).get(entry.name) == entry.stat().st_ino
            for folder, entry in pairwise(reached)
        )
        return entries and self.contents.get(path.stat().st_ino) == path.read_bytes()

    def names(self, folder: Path) -> set[str]:
        return {name for name in self.folders.get(folder, {}) if name.endswith(".parquet")}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path)
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        disk.sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return disk


@pytest.fixture
def engine(tmp_path: Path) -> ParquetStorageEngine:
    return ParquetStorageEngine(tmp_path / "data" / "lake")


def candles(seed: int = 0, n: int = 0) -> CandleSeries:
    return make_candles(
        KEY, 60, start=datetime(2024, 1, 2, tzinfo=UTC) + timedelta(days=n), seed=seed
    )


def write(engine: ParquetStorageEngine, job: str, seed: int = 0, n: int = 0) -> Path:
    day = DAY + timedelta(days=n)
    return engine.write(
        candles(seed, n), frame="1m", symbol="AAPL", trading_day=day, job_id=job, overwrite=True
    )


def test_what_was_written_is_on_disk(engine: ParquetStorageEngine, disk: Disk) -> None:
    assert disk.holds(write(engine, "job")), "with every folder that was made for it"
    assert disk.holds(write(engine, "job", seed=1)), "written over"
    assert disk.holds(write(engine, "other"))
    assert disk.holds(write(engine, "job", n=1)), "in a folder of its own"


def test_a_file_is_on_disk_before_it_takes_the_place_of_another(
    engine: ParquetStorageEngine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave the new name with nothing behind it, and the old bytes gone."""
    replace = os.replace
    replaced: list[Path] = []

    def checked(source: Any, target: Any) -> None:
        assert disk.contents.get(Path(source).stat().st_ino) == Path(source).read_bytes()
        replaced.append(Path(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked)
    written = [write(engine, "a"), write(engine, "b", seed=1), write(engine, "a", seed=2)]
    assert replaced == written
    assert [*engine.compact("1m", "AAPL")] == replaced[3:]


def test_what_was_compacted_is_on_disk_before_its_sources_go(
    engine: ParquetStorageEngine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(engine, "a").parent
    write(engine, "b", seed=1)
    unlink = Path.unlink
    removed: list[str] = []

    def checked(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet":
            assert disk.holds(folder / "compacted.parquet")
            removed.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", checked)
    engine.compact("1m", "AAPL")
    assert sorted(removed) == ["a.parquet", "b.parquet"]
    assert disk.names(folder) == {"compacted.parquet"}


def test_what_was_deleted_does_not_come_back(engine: ParquetStorageEngine, disk: Disk) -> None:
    folders = [write(engine, "a", n=n).parent for n in range(2)]
    write(engine, "b", n=1)
    assert engine.delete_job("a") == 2
    assert [disk.names(folder) for folder in folders] == [set(), {"b.parquet"}]


def other_rows(path: Path, series: CandleSeries, facts: Any, compression: str) -> None:
    """Whole and sound, and not what it was to be."""
    other = series[1:]
    files_write(path, other, files.FileFacts.about(other, PARTITION, "compacted"), compression)


def a_row_short(path: Path, series: CandleSeries, facts: Any, compression: str) -> None:
    files_write(path, series[1:], facts, compression)


def a_flipped_bit(path: Path, series: CandleSeries, facts: Any, compression: str) -> None:
    files_write(path, series, facts, compression)
    whole = path.read_bytes()
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])


def half_of_it(path: Path, series: CandleSeries, facts: Any, compression: str) -> None:
    files_write(path, series, facts, compression)
    path.write_bytes(path.read_bytes()[:-200])


files_write = files._write
PARTITION = Partition("AAPL", "1m", DAY)


@pytest.mark.parametrize("faulty", [other_rows, a_row_short, a_flipped_bit, half_of_it])
def test_a_compaction_that_the_disk_spoilt_deletes_nothing(
    engine: ParquetStorageEngine,
    monkeypatch: pytest.MonkeyPatch,
    faulty: Callable[[Path, CandleSeries, Any, str], None],
) -> None:
    sources = {path: path.read_bytes() for path in (write(engine, "a"), write(engine, "b", 1))}
    before = engine.load_symbol_data("AAPL", "1m")
    monkeypatch.setattr(files, "_write", faulty)
    with pytest.raises(DamagedFile):
        engine.compact("1m", "AAPL")
    monkeypatch.undo()
    folder = next(iter(sources)).parent
    assert {path: path.read_bytes() for path in folder.glob("*.parquet")} == sources
    assert not [*folder.glob(f"*{TEMPORARY}")]
    assert engine.load_symbol_data("AAPL", "1m") == before
    engine.compact("1m", "AAPL")
    assert engine.load_symbol_data("AAPL", "1m") == before


def test_a_lasting_file_is_complete(engine: ParquetStorageEngine, disk: Disk) -> None:
    """The bytes that were synced can be read as Parquet by themselves."""
    path = write(engine, "job")
    synced = disk.contents[path.stat().st_ino]
    assert pq.read_table(pa.BufferReader(synced)).num_rows == 60
