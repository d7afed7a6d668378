"""Backups within a service: one when it is due, and the next whatever became of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from jts_storage.backup.results import BackupResult, Verified
from jts_storage.backup.retention import Retention
from jts_storage.backup.runs import BackupRuns
from jts_storage.backup.schedule import BackupSchedule
from jts_storage.errors import Conflict, InvalidConfiguration, StorageError
from jts_storage.settings.backup import BackupConfig


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 30, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class Manager:
    """Notes when it was asked, and fails at the second time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[datetime] = []
        self.pruned: list[int] = []
        self.enough = asyncio.Event()

    async def create_backup(self, *, note: str) -> Any:
        self.asked.append(self.clock.now)
        if len(self.asked) == 4:
            self.enough.set()
        if len(self.asked) == 2:
            raise Conflict("Another backup is being made.")
        status: Literal["success", "failed"] = "failed" if len(self.asked) == 3 else "success"
        faults = ("an object is missing",) if status == "failed" else ()
        return BackupResult(
            backup_id=note,
            timestamp=self.clock.now,
            size_bytes=0,
            status=status,
            location="",
            version=1,
            new_bytes=0,
            new_objects=0,
            seconds=0,
            waited_seconds=0,
            is_verified=not faults,
            faults=faults,
        )

    async def prune(self, retention: Retention) -> None:
        self.pruned.append(self.clock.now.day)


async def test_one_is_made_each_day_whatever_becomes_of_the_one_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    manager: Any = Manager(clock)
    told: list[BackupResult | StorageError] = []
    runs, failures = BackupRuns(), list[bool]()

    def tell(outcome: BackupResult | StorageError) -> None:
        told.append(outcome)
        runs(outcome)
        failures.append(bool(runs.has_failed))
        raise RuntimeError("who hears of it fails")

    schedule = BackupSchedule(
        manager,
        "0 2 * * *",
        retention=Retention(),
        told=tell,
        now=lambda: clock.now,
        sleep=clock.sleep,
    )
    async with schedule:
        await asyncio.wait_for(manager.enough.wait(), 60)
    first = [datetime(2026, 11, 30, 2, tzinfo=UTC) + timedelta(days=n) for n in range(4)]
    assert manager.asked[:4] == first
    # What failed removes nothing: the last good ones may be the last ones at all.
    assert manager.pruned[:1] == [30] and 1 not in manager.pruned and 2 not in manager.pruned
    assert isinstance(told[1], Conflict)
    assert "an object is missing" in caplog.text
    assert failures[:4] == [False, True, True, False]
    assert runs.verified_at is not None


class Failing(Manager):
    """One whose backups fail in a way that nobody foresaw, and whose prunes fail."""

    def __init__(self, clock: Clock, *, makes: bool) -> None:
        super().__init__(clock)
        self.makes = makes

    async def create_backup(self, *, note: str) -> Any:
        if self.makes:
            self.asked = []  # so that it never fails by itself
            self.made = getattr(self, "made", 0) + 1
            if self.made == 3:
                self.enough.set()
            return await super().create_backup(note=note)
        self.asked.append(self.clock.now)
        if len(self.asked) == 3:
            self.enough.set()
        raise MemoryError

    async def prune(self, retention: Retention) -> None:
        raise StorageError("the manifest of a backup is missing")


@pytest.mark.parametrize("makes", [True, False])
async def test_neither_the_unforeseen_nor_a_prune_that_fails_keeps_the_next_from_being_made(
    makes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    manager: Any = Failing(clock, makes=makes)
    told: list[BackupResult | StorageError] = []
    schedule = BackupSchedule(
        manager,
        "0 2 * * *",
        retention=Retention(),
        told=told.append,
        now=lambda: clock.now,
        sleep=clock.sleep,
    )
    async with schedule:
        await asyncio.wait_for(manager.enough.wait(), 60)
    if makes:
        assert isinstance(told[0], BackupResult) and told[0].status == "success"
        assert "were not removed: the manifest of a backup is missing" in caplog.text
        assert "was not made" not in caplog.text
    else:
        assert isinstance(told[0], StorageError) and "MemoryError" in str(told[0])


@pytest.mark.parametrize(
    ("was_restored", "faults", "expected"),
    [(True, (), (False, True)), (False, (), (False, False)), (True, ("torn",), (True, False))],
)
def test_only_what_was_restored_and_is_the_same_is_proven(
    was_restored: bool, faults: tuple[str, ...], expected: tuple[bool, bool]
) -> None:
    runs = BackupRuns()
    assert (runs.has_failed, runs.verified_at) == (None, None)
    found = Verified(
        backup_id="a", objects=1, bytes=1, seconds=1, was_restored=was_restored, faults=faults
    )
    runs(found)
    assert (runs.has_failed, runs.verified_at is not None) == expected


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTS_BACKUP_KEEP_DAILY", "7")
    monkeypatch.setenv("JTS_BACKUP_VERIFY", "false")
    monkeypatch.setenv("JTS_BACKUP_KEY", "very secret")
    config = BackupConfig.from_env()
    assert (config.keep_daily, config.verify, config.keep_days) == (7, False, 30)
    assert "very secret" not in repr(config)


@pytest.mark.parametrize(
    ("name", "value"), [("JTS_BACKUP_KEEP_DALY", "7"), ("JTS_BACKUP_KEEP_DAILY", "many")]
)
def test_what_is_no_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidConfiguration, match="JTS_BACKUP_KEEP_D"):
        BackupConfig.from_env()
