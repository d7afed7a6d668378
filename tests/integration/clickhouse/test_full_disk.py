"""What is written on a full disk raises, stores nothing, and can be finished when there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from jts_storage import SeriesKey, StorageSettings, Timeframe
from jts_storage.errors import StorageError
from jts_storage.sync import Storage
from jts_storage.testing.factories import make_candles, make_formula, make_symbol

Filled = Callable[[Path], AbstractContextManager[None]]
ROOM: Final = 16 << 20
FILES: Final = 2_000
ATTEMPTS: Final = 10


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk in memory, mounted on a folder."""
    folder.mkdir(parents=True)
    options = f"size={ROOM},nr_inodes={FILES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
        said = done.stderr if done.returncode else ""
    except FileNotFoundError as failure:
        said = str(failure)
    if said:
        pytest.skip(f"NOT RUN on a full disk: it takes the right to mount a small one ({said})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def no_room(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096):
            _until_full(partial(file.write, bytes(size)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def no_room_for_a_file(disk: Path) -> Iterator[None]:
    folder = disk / "filler"
    folder.mkdir()
    names = (folder / str(number) for number in range(2 * FILES))
    _until_full(lambda: next(names).touch())
    try:
        yield
    finally:
        shutil.rmtree(folder)


def _until_full(write: Callable[[], object]) -> None:
    while True:
        try:
            write()
        except OSError:
            return


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("full") / "clickhouse"
    with small_disk(folder):
        yield folder


@pytest.fixture(scope="module")
def storage(disk: Path, engine_used: Callable[[str], None]) -> Iterator[Storage]:
    engine_used("chDB on a full disk")
    with Storage.open(StorageSettings(data_dir=disk.parent)) as storage:
        yield storage


@pytest.fixture(params=[no_room, no_room_for_a_file])
def full(request: pytest.FixtureRequest) -> Filled:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [1, 10, 20_000, 60_000])
def test_candles_raise_and_are_not_stored(
    storage: Storage, disk: Path, full: Filled, rows: int
) -> None:
    for attempt in range(ATTEMPTS):
        key = SeriesKey(f"{full.__name__}-{rows}-{attempt}", Timeframe.M1, exchange="KRX")
        try:
            with full(disk), storage.unit_of_work() as uow:
                uow.candles.save_many(key, make_candles(key, rows))
                uow.commit()
        except StorageError as caught:
            assert "free some" in str(caught) and caught.remedy
            assert storage.candles.count(key) == 0
            return
        # The engine has thrown parts of earlier tests away meanwhile, and this had their room.
        assert storage.candles.count(key) == rows
    pytest.fail(f"the disk was full {ATTEMPTS} times, and nothing was refused")


def test_a_symbol_raises_and_is_not_stored(storage: Storage, disk: Path, full: Filled) -> None:
    refused = pytest.raises(StorageError, match="free some")
    with full(disk), refused, storage.unit_of_work() as uow:
        uow.symbols.save(make_symbol("NOROOM"))
        uow.commit()
    assert storage.symbols.get_by_code("NOROOM") is None


def test_a_commit_over_stores_says_that_it_is_decided_and_is_finished_by_recovery(
    storage: Storage, disk: Path, full: Filled, request: pytest.FixtureRequest
) -> None:
    name = f"BOTH{request.node.callspec.id}"
    key = SeriesKey(name, Timeframe.M1)
    with full(disk):
        with pytest.raises(StorageError, match="decided"), storage.unit_of_work() as uow:
            uow.formulas.save(make_formula(name))
            uow.symbols.save(make_symbol(name))
            uow.candles.save_many(key, make_candles(key, 10))
            uow.commit()
        assert storage.health().unfinished == 1
        assert storage.candles.count(key) == 0
    storage.recover()
    assert storage.health().unfinished == 0
    assert storage.candles.count(key) == 10
    assert storage.symbols.get_by_code(name) is not None
    assert name in {formula.name for formula in storage.formulas.list()}
