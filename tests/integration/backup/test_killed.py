"""Processes that are killed while they back up, prune or restore leave nothing half done."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from jts_storage import StorageSettings
from jts_storage.backup import BackupRepository
from jts_storage.backup.verify import damage
from tests import forked
from tests.integration.backup.filled import fill

_PROGRAM = Path(__file__).with_name("dying_backups.py")
_KILLS = int(os.environ.get("JTS_TEST_KILLS", "50"))


class _Killer:
    """Runs the program on one storage and one repository."""

    def __init__(self, settings: StorageSettings, repository: Path) -> None:
        self.repository = repository
        assert settings.mongo_url is not None
        self._settings = {
            "data_dir": str(settings.data_dir),
            "mongo_url": settings.mongo_url.get_secret_value(),
            "mongo_database": settings.mongo_database,
            "migrate": True,
        }
        self.seconds: dict[str, float] = {}

    def run(self, what: str) -> str:
        """Let it end, and return what it said in between."""
        process = self._started(what)
        begun = time.monotonic()
        assert process.stdout is not None
        with process.stdout:
            said = process.stdout.read()
        assert process.wait() == 0, said
        self.seconds[what] = time.monotonic() - begun
        return said.splitlines()[0]

    def kill(self, what: str, share: float) -> bool:
        """Kill it after a share of the time that it takes; False if it was done before."""
        process = self._started(what)
        time.sleep(share * self.seconds[what])
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        return process.wait() != 0

    def _started(self, what: str) -> forked.Process:
        arguments: list[str | Path] = [_PROGRAM, what, self.repository, json.dumps(self._settings)]
        process = forked.Process(arguments, stdout=forked.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begun"
        return process


async def _filled(settings: StorageSettings) -> None:
    from jts_storage import Storage
    from jts_storage.backend import StoreBackend

    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)


def _is_whole(repository: Path) -> list[str]:
    """The backups, after a look at all of them."""
    objects = BackupRepository(repository).open()
    for each in objects.ids():
        assert not damage(objects, objects.manifest(each))
    return objects.ids()


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_kills_leave_a_valid_repository_and_a_storage_that_can_be_restored(
    settings: StorageSettings, repository: Path
) -> None:
    import asyncio

    asyncio.run(_filled(settings))
    killer = _Killer(settings, repository)
    stored = killer.run("look")
    for what in ("create", "prune", "restore"):
        killer.run(what)
    assert killer.run("look") == stored
    chance, killed = random.Random(5), 0
    for number in range(_KILLS):
        what = ("create", "restore", "prune")[number % 3]
        killed += killer.kill(what, chance.random())
        assert _is_whole(repository)
        if what == "restore":
            killer.run("restore")
        if number % 3 == 2:
            killer.run("create")
        if number % 5 == 0:
            assert killer.run("look") == stored
    assert killed > _KILLS // 2
    killer.run("prune")
    assert len(_is_whole(repository)) == 2
    assert not list((repository / "tmp").iterdir())
    assert killer.run("look") == stored
