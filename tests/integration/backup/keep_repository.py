"""Writes a repository as this release makes it, to be read by all later ones.

``python -m tests.integration.backup.keep_repository`` makes ``kept/format-N.tar`` and what is in
it; it is run once for each format, and what it wrote is never written again.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from jts_storage import Storage, StorageSettings
from jts_storage.backup import BackupManager
from jts_storage.backup.repository import FORMAT
from jts_storage.domain import checks
from tests.integration.backup.filled import KEY, OTHER, fill

KEPT = Path(__file__).with_name("kept")


async def summary(storage: Storage) -> dict[str, Any]:
    """What has to come back, in the same words for ever."""
    found: dict[str, Any] = {}
    for key in (KEY, OTHER):
        series = await storage.candles.get_range(key, checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
        found[str(key)] = [len(series), series.fingerprint()]
    found["corrections"] = len(await storage.candles.changes(KEY))
    found["strategies"] = [each.name for each in await storage.strategies.list()]
    found["formulas"] = [each.name for each in await storage.formulas.list()]
    found["symbols"] = [each.code for each in await storage.symbols.get_all_active()]
    checkpoints = await storage.ingestion.checkpoints.list()
    found["checkpoints"] = [[each.name, dict(each.data)] for each in checkpoints]
    return found


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = StorageSettings(data_dir=folder / "data", env_file=None)
        async with Storage.open(settings) as storage:
            await fill(storage, settings.lake_root)
            await BackupManager(storage, folder / "repository").create_backup(note="kept")
            expected = await summary(storage)
        target = KEPT / f"format-{FORMAT}.tar"
        with tarfile.open(target, "x") as tar:
            tar.add(folder / "repository", "repository")
        target.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
