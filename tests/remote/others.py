"""Other processes that have a folder open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests import forked

OTHER: Final = """
import asyncio, sys
from jts_storage import Storage, StorageSettings

async def main():
    share = sys.argv[2] == "share"
    async with Storage.open(StorageSettings(data_dir=sys.argv[1], share=share)) as storage:
        print("open", "remote" if storage._backend.is_remote else "direct", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print("closed", flush=True)

asyncio.run(main())
"""


class Other:
    """Another process that has a folder open."""

    def __init__(self, folder: Path, how: str = "share") -> None:
        self.process = forked.Process(
            ["-c", OTHER, folder, how], stdin=forked.PIPE, stdout=forked.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    async def said(self) -> str:
        return (await asyncio.to_thread(self.stdout.readline)).strip()

    async def end(self) -> None:
        self.stdin.close()
        assert await self.said() == "closed"
        assert await asyncio.to_thread(self.process.wait, 60) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self.stdin.close()
        self.stdout.close()


@asynccontextmanager
async def other(folder: Path, how: str = "share") -> AsyncIterator[Other]:
    found = Other(folder, how)
    try:
        assert (await found.said()).startswith("open")
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()
        else:
            found.stdout.close()
