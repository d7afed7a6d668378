"""Does one thing with a repository of backups, and says when it begins: to be killed meanwhile.

Arguments: ``create``, ``prune``, ``restore`` or ``look``, the repository, and the settings as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager, BackupRepository, Retention
from jts_storage.backup.pruning import pruned


async def main(what: str, repository: Path, given: dict[str, Any]) -> None:
    if what == "prune":
        print("begun", flush=True)
        pruned(BackupRepository(repository).open(), Retention(last=2, days=0), dry_run=False)
        print("done", flush=True)
        return
    url = SecretStr(given.pop("mongo_url"))
    settings = StorageSettings(mongo_url=url, env_file=None, **given)
    async with Storage(StoreBackend(settings)) as storage:
        manager = BackupManager(storage, repository)
        print("begun", flush=True)
        if what == "create":
            result = await manager.create_backup()
            assert result.status == "success", result.faults
        elif what == "restore":
            await manager.restore(replace=True)
        else:
            print(await _looked(storage), flush=True)
        print("done", flush=True)


async def _looked(storage: Storage) -> str:
    """A hash of what is stored, and whether anything is unfinished."""
    from tests.integration.backup.test_create_and_restore import everything

    found = repr(await everything(storage)).encode()
    unfinished = (await storage.health()).unfinished
    return f"{hashlib.sha256(found).hexdigest()} {unfinished}"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
