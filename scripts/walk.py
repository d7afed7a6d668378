"""Print which rooms four calls go through: `save_many`, `get_range`, a commit, and an import.

A room is a row of the table in docs/architecture.md: a folder at the top of the package, with what
is in it. `--files` lists the files, too.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import jts_storage
from jts_storage import Market, Storage, StorageSettings
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula
from jts_storage.usecases.import_candles import ImportCandles
from jts_storage.usecases.import_options import ImportOptions

PACKAGE = Path(jts_storage.__file__).parent
CORE = {"domain", "_runtime"}
"""What every room knows; it is not counted."""


_entered: set[str] = set()


def note(frame: FrameType, event: str, _: object) -> None:
    """What Python calls for each call in each thread."""
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(str(PACKAGE)):
        _entered.add(name[len(str(PACKAGE)) + 1 :])


async def entered(call: Callable[[], Awaitable[object]]) -> set[str]:
    """The files of the package that a call enters, in whatever thread."""
    _entered.clear()
    await call()
    return set(_entered)


def room(file: str) -> str:
    return file.partition("/")[0] if "/" in file else "the top"


async def walks(storage: Storage, folder: Path) -> dict[str, set[str]]:
    csv = folder / "candles.csv"
    make_candles(count=1_000).to_arrow().to_pandas().to_csv(csv, index=False)
    start, end = make_candles(count=10).start, make_candles(count=10).end
    assert start is not None
    assert end is not None
    found = {}
    imports, options = ImportCandles(storage), ImportOptions(create=Market.KOSPI)
    async with storage.unit_of_work() as uow:
        series = make_candles(count=10)
        found["save_many"] = await entered(lambda: uow.candles.save_many(SAMPLE_KEY, series))
        await uow.formulas.save(make_formula())
        await uow.ingestion.checkpoints.save("walk", {})
        found["commit"] = await entered(uow.commit)
    found["get_range"] = await entered(lambda: storage.candles.get_range(SAMPLE_KEY, start, end))
    found["import"] = await entered(
        lambda: imports.run(csv, SAMPLE_KEY.timeframe, symbol="W", options=options)
    )
    return found


async def main() -> None:
    threading.setprofile(note)
    sys.setprofile(note)
    with tempfile.TemporaryDirectory() as folder:
        async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
            found = await walks(storage, Path(folder))
    for name, files in found.items():
        rooms = sorted({room(file) for file in files} - CORE)
        print(f"{name:10} {len(files):3} files, {len(rooms):2} rooms: {', '.join(rooms)}")
        if "--files" in sys.argv:
            print(*(f"    {file}" for file in sorted(files)), sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
