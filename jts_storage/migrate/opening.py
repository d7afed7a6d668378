"""What opening a storage does to the schemas of its stores, as its settings say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from jts_storage.clickhouse.broken_parts import tell_broken_parts
from jts_storage.errors import SchemaDrift
from jts_storage.migrate.checks import check
from jts_storage.migrate.declared import create_missing
from jts_storage.migrate.plan import Step
from jts_storage.migrate.reports import Event, Progress, describe
from jts_storage.migrate.runner import Databases, opened, up
from jts_storage.ports.schema import STATES
from jts_storage.settings import StorageSettings

_KEEPS_HISTORY: Final = {"clickhouse": ("candles", "0007"), "mongo": ("documents", "0007")}
"""By store what its history is of, and the migration since which it has one."""

log = logging.getLogger(__name__)


def _told(event: Event) -> None:
    """Tell what takes long as it goes on; the rest is one line once all is open."""
    is_long = isinstance(event, Progress) and event.total > 0
    log.log(logging.INFO if is_long else logging.DEBUG, "%s", describe(event))


class Opening:
    """
    :param stores: all of them; the settings say which of them are touched.
    """

    def __init__(self, settings: StorageSettings, stores: Databases) -> None:
        self._settings = settings
        self._stores = stores

    async def prepare(self, *, creates_all: bool = False) -> list[Step]:
        """Migrate what is embedded, or all if asked to; then compare, if asked to.

        Return the migrations that were applied.

        :param creates_all: create what is missing of declared models in every store.
        """
        migrated = self._chosen(self._migrates)
        applied = await up(migrated, report=_told)
        await create_missing(self._stores if creates_all else migrated)
        await self._tell_broken_parts()
        if self._settings.check != "off":
            await self._compare()
        return applied

    async def history_applied(self) -> dict[str, int]:
        """When the schemas that keep a history were applied, by what it is of, in milliseconds.

        Who took one back and applied it again has changed the time: meanwhile nothing was kept.
        """
        found: dict[str, int] = {}
        for migrations in opened(self._stores, "kit"):
            of, revision = _KEEPS_HISTORY.get(migrations.store, ("", ""))
            entry = (await migrations.history()).entries.get(revision) if of else None
            if entry is not None:
                found[of] = round(entry.at.timestamp() * 1_000)
        return found

    def _chosen(self, is_chosen: Callable[[object | None], bool]) -> Databases:
        """The stores that are chosen by their URL."""
        settings, stores = self._settings, self._stores
        return replace(
            stores,
            clickhouse=stores.clickhouse if is_chosen(settings.clickhouse_url) else None,
            mongo=stores.mongo if is_chosen(settings.mongo_url) else None,
            database=stores.database if is_chosen(settings.database_url) else None,
        )

    def _migrates(self, url: object | None) -> bool:
        """Whether opening brings the store of a URL up to date."""
        return url is None if self._settings.migrate is None else self._settings.migrate

    async def _tell_broken_parts(self) -> None:
        clickhouse = self._stores.clickhouse
        if clickhouse is None:
            return
        # A server that is away shall not hold up the opening: the probe does not wait for it.
        is_asked = clickhouse.is_embedded
        if is_asked or (await asyncio.to_thread(clickhouse.state)).broken_parts:
            await clickhouse.run(tell_broken_parts, clickhouse)

    async def _compare(self) -> None:
        found = await check(self._stores)
        # Of damaged rows the log has told already; a storage that does not open mends nothing.
        differences = [each for each in found if each.what not in STATES and not each.is_note]
        if not differences:
            return
        listed = "; ".join(map(str, differences))
        if self._settings.check == "error":
            raise SchemaDrift(
                f"Live schemas differ from the models: {listed}",
                remedy="`jts-storage check` tells which command mends each.",
            )
        log.warning("Live schemas differ from the models: %s", listed)
