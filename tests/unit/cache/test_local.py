"""Storages on one folder in one process share what they know of writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from jts_storage import StorageSettings
from jts_storage.cache import values
from jts_storage.cache.backend import Cache, cache_of


def cache_on(folder: Path) -> Cache:
    made = cache_of(StorageSettings(data_dir=folder, cache="local"))
    assert made is not None
    return made


async def test_two_storages_on_one_folder_see_the_writes_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = cache_on(tmp_path / "data"), cache_on(Path("data"))
    number = 1

    async def ask() -> int:
        return number

    async def read(cache: Cache) -> int:
        return await cache.answers.get(("many series",), "n", ask, values.COUNT)

    assert [await read(one), await read(other), await read(other)] == [1, 1, 1]
    async with one.writing(None, symbols=False):
        number = 2
        assert await read(other) == 2
    assert [await read(one), await read(other)] == [2, 2]


async def test_other_folders_have_nothing_to_do_with_it(tmp_path: Path) -> None:
    one, other = cache_on(tmp_path / "one"), cache_on(tmp_path / "other")

    async def ask() -> int:
        return 1

    for _ in range(2):
        async with one.writing(None, symbols=False):
            await other.answers.get(("many series",), "n", ask, values.COUNT)
    assert other.statistics().hits == 1
