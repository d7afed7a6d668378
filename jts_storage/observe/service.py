"""The figures of a service and its alerts, for those who run no Prometheus."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Self

from jts_storage._runtime.tasks import is_being_cancelled, stopped
from jts_storage.domain import checks
from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.observe.alerts import ALERTS, Alert, Notice
from jts_storage.observe.catalogue import Sample
from jts_storage.observe.judging import Judge
from jts_storage.observe.process import disk_usage, process_figures
from jts_storage.observe.state import Backups, Runs, StorageState
from jts_storage.observe.watched import Watched

if TYPE_CHECKING:
    from jts_storage.observe.metrics import Metrics

Handler = Callable[[Notice], Awaitable[None] | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetricsData:
    """The state of a service and its host at one moment.

    :param cpu_usage: percent of the host's processors in use since the last look.
    :param memory_usage: percent of the host's memory in use.
    :param response_time_ms: how long the stores took to answer.
    :param disk_usage: percent of the working folder's disk in use.
    :param samples: everything else, as metrics.
    """

    timestamp: datetime
    cpu_usage: float
    memory_usage: float
    response_time_ms: int
    disk_usage: float
    samples: tuple[Sample, ...] = ()


class MonitoringService:
    """Looks at an open storage now and then, and tells a handler which alerts fire.

    Use it as an asynchronous context manager beside the storage, or call `collect_metrics` alone.

    :param alerts: thresholds to judge by; those of `jts_storage.observe.ALERTS` if not given.
    :param handler: is called with each `Notice`; a coroutine function may be given. If none is,
        notices are logged. What it raises is logged, and the notice is told again with the next
        look, then less and less often, at the least once a cooldown.
    :param patience: seconds that the handler may take for one notice, if it is a coroutine.
    :param metrics: that the storage was opened with, for alerts on calls.
    :param every: seconds between looks.
    :param backups: gives when each backup was cut; `backups_of` makes it of a repository. The
        alerts on backups need it.
    :param backup_runs: a `BackupRuns`, of the backups that this process makes.
    :param cooldown: seconds until an alert that still fires is told again.
    """

    def __init__(
        self,
        storage: Watched,
        *,
        alerts: Iterable[Alert] = ALERTS,
        handler: Handler | None = None,
        metrics: Metrics | None = None,
        every: float = 60.0,
        cooldown: float = 300.0,
        backups: Backups | None = None,
        backup_runs: Runs | None = None,
        patience: float = 30.0,
    ) -> None:
        self._storage, self._metrics, self._handler = storage, metrics, handler
        self._patience = checks.finite(patience, "patience")
        self._judge = Judge(alerts, cooldown=cooldown)
        self._every = checks.finite(every, "every")
        if self._every <= 0:
            raise InvalidData("must be above 0", field="every", value=every)
        self._state = StorageState(storage, backups=backups, backup_runs=backup_runs)
        self._looking: asyncio.Task[None] | None = None

    async def collect_metrics(self) -> MetricsData:
        """Look now.

        :raises InvalidConfiguration: psutil is not installed.
        """
        figures = process_figures()
        if figures is None:
            raise InvalidConfiguration(
                "collect_metrics needs psutil", remedy="pip install 'jts-storage[metrics]'"
            )
        begun = perf_counter()
        samples = await self._state.read()
        milliseconds = round((perf_counter() - begun) * 1_000)
        if self._metrics is not None:
            samples += self._metrics.samples()
        return MetricsData(
            datetime.now(UTC),
            figures.host_cpu,
            figures.host_memory,
            milliseconds,
            disk_usage("."),
            tuple(samples),
        )

    async def look(self) -> list[Notice]:
        """Look now, tell the handler, and return what it was told.

        What it could not be told is told with the next look.
        """
        data = await self.collect_metrics()
        told = []
        for notice in self._judge.judge(data.timestamp, data.samples):
            if await self._tell(notice):
                told.append(notice)
            else:
                self._judge.untold(notice)
        return told

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_again_and_again())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            await stopped(self._looking)
        await self._state.close()

    async def _look_again_and_again(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                # Who watches must not end because one look failed.
                log.exception("A look at the stores failed.")
            await asyncio.sleep(self._every)

    async def _tell(self, notice: Notice) -> bool:
        """Whether the handler has taken it."""
        extra = {"alert": notice.alert.name, "runbook": notice.alert.runbook}
        if self._handler is None:
            log.log(logging.INFO if notice.is_over else logging.WARNING, notice.text, extra=extra)
            return True
        try:
            waiting = self._handler(notice)
            if inspect.isawaitable(waiting):
                async with asyncio.timeout(self._patience):
                    await waiting
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            log.warning("The handler of alerts waited for what was cancelled.", extra=extra)
        except TimeoutError:
            log.exception("The handler of alerts failed, or took too long.", extra=extra)
        except Exception:
            # The handler is the service's own; the next notice is told all the same.
            log.exception("The handler of alerts failed.", extra=extra)
        else:
            return True
        return False
