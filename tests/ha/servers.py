"""Stores of which one is on several nodes, for rounds of histories and for programs of pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from jts_storage import Storage, StorageSettings
from jts_storage.testing.clickhouse_server import ServerProcess
from tests.histories.process import settings_of
from tests.histories.scene import MODELS
from tests.histories.servers import HOST, Network


class Stores:
    """A ClickHouse endpoint, a SQLite file, and whatever URLs are given in their place; migrated.

    :param urls: such as ``mongo_url``; whose servers the caller starts and stops.
    :param asked: what the workers' URLs have beyond those that are looked at the end with: options,
        or the whole URL of a Redis that the end is not to ask.
    """

    def __init__(
        self, folder: Path, urls: Mapping[str, str], *, asked: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._given = dict(urls)
        self._asked = dict(asked or {})
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            endpoint = ServerProcess(self.folder / "clickhouse", fsync=False)
            port = stack.enter_context(endpoint).port
            self._urls = {
                "clickhouse_url": f"clickhouse://{HOST}:{port}/default",
                "database_url": f"sqlite:///{self.folder / 'bookkeeping.db'}",
                **self._given,
            }
            asyncio.run(self._migrate())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def settings(self) -> StorageSettings:
        return settings_of(self._urls, self.folder)

    def network(self) -> Network:
        """The way to the servers themselves: it is they that fail here."""
        names = self._urls.keys() | self._asked.keys()
        return Network(
            {name: self._urls.get(name, "") + self._asked.get(name, "") for name in names}
        )

    async def _migrate(self) -> None:
        settings = self.settings.model_copy(update={"migrate": True})
        async with Storage.open(settings, models=MODELS):
            pass
