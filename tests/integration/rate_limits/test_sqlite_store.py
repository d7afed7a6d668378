"""What only a file has: locks, damage, forks, a command beside the service."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path

import pytest

from jts_storage.domain.rate_books import Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import LimitKey, PerDay, PerSecond, RateLimits
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.relational import rate_limits
from jts_storage.relational.rate_limits import SqliteRateLimits
from jts_storage.testing.contracts.rate_limits import SetClock
from jts_storage.usecases.rate_limits import SharedRateLimiter
from tests import forked

KEY = LimitKey("kis", "main")
ONE = (PerSecond(1), PerDay(10))


async def test_what_counts_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    first = SqliteRateLimits(path)
    assert isinstance(await first.take(SlotRequest(KEY, ONE, "a", 1, 30)), Granted)
    await first.close()
    second = SqliteRateLimits(path)
    assert isinstance(await second.take(SlotRequest(KEY, ONE, "b", 1, 30)), Refused)
    await second.close()


def test_forks_share_a_limit_and_no_names_of_slots(tmp_path: Path) -> None:
    program = """
import asyncio, os, sys
from pathlib import Path
from jts_storage import PerMinute, RateLimits
from jts_storage.relational.rate_limits import SqliteRateLimits
from jts_storage.usecases.rate_limits import SharedRateLimiter

limiter = SharedRateLimiter(RateLimits(kis=[PerMinute(9)]), SqliteRateLimits(Path("limits.db")))
prepared = limiter.acquire("kis")

async def enter():
    await limiter.acquire("kis").__aenter__()
    await prepared.__aenter__()

for _ in range(2):
    child = os.fork()
    if not child:
        asyncio.run(enter())
        os._exit(0)
    os.waitpid(child, 0)

async def leave_as_a_fork():
    held = limiter.acquire("kis")
    await held.__aenter__()
    limiter.begin_in_child()
    await held.__aexit__(None, None, None)
    print((await limiter.state("kis")).in_flight)

asyncio.run(leave_as_a_fork())
"""
    done = forked.run(["-c", program], cwd=tmp_path, timeout=60)
    assert (done.stdout, done.stderr) == ("5\n", "")


async def test_a_file_that_was_deleted_is_left_for_the_new_one_after_a_window(
    tmp_path: Path,
) -> None:
    clock = SetClock()
    one, other = (SqliteRateLimits(tmp_path / "limits.db", clock) for _ in range(2))
    assert isinstance(await one.take(SlotRequest(KEY, ONE, "a", 1, 30)), Granted)
    for each in [*tmp_path.iterdir()]:  # noqa: ASYNC240
        each.unlink()
    assert await one.take(SlotRequest(KEY, ONE, "b", 1, 30)) == Refused(2_000_001)
    assert await other.take(SlotRequest(KEY, ONE, "c", 1, 30)) == Refused(2_000_001)
    clock.go_on(2.000_001)
    assert isinstance(await other.take(SlotRequest(KEY, ONE, "c", 1, 30)), Granted)
    assert isinstance(await one.take(SlotRequest(KEY, ONE, "b", 1, 30)), Refused)
    assert await one.accounts("kis") == ["main"]
    await one.close()
    await other.close()


async def test_a_power_cut_takes_no_more_than_a_second(tmp_path: Path) -> None:
    store = SqliteRateLimits(tmp_path / "limits.db")
    found = []
    for synced in (0.0, float("inf")):  # long ago, and just now
        store._synced = synced
        await store.take(SlotRequest(KEY, ONE, f"of {synced}", 1, 30))
        assert store._connection is not None
        found.append(store._connection.execute("PRAGMA synchronous").fetchone())
    assert found == [(2,), (1,)], "FULL, and NORMAL"
    await store.close()


async def test_looking_makes_no_file(tmp_path: Path) -> None:
    store = SqliteRateLimits(tmp_path / "none" / "limits.db")
    assert (await store.state(KEY, ONE)).remaining == 1
    assert await store.accounts("kis") == []
    assert not store.path.parent.exists()


async def test_a_file_that_is_locked_for_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_LOCK_SECONDS", 0.1)
    store = SqliteRateLimits(tmp_path / "limits.db")
    await store.take(SlotRequest(KEY, ONE, "a", 1, 30))
    await store.close()
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConnectionFailed, match=f"locked for 0.1 s by process {os.getpid()}"):
        await store.take(SlotRequest(KEY, ONE, "b", 1, 30))
    holder.close()
    assert isinstance(await store.take(SlotRequest(KEY, ONE, "b", 1, 30)), Refused)
    await store.close()


async def test_who_asks_with_little_patience_waits_for_no_lock_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_LOCK_SECONDS", 600.0)
    store = SqliteRateLimits(tmp_path / "limits.db")
    limiter = SharedRateLimiter(RateLimits(kis=ONE), store)
    await store.take(SlotRequest(KEY, ONE, "a", 1, 30))
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def ask(account: str) -> None:
        async with limiter.acquire("kis", account, timeout=0.2):
            raise AssertionError

    asked = (ask(f"account{number}") for number in range(6))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in outcomes] == [ConnectionFailed] * 6
    holder.close()
    await limiter.close()


@pytest.mark.parametrize("text", ["nonsense", "[[[1]]", "{}", "[[], []]"])
async def test_a_book_that_cannot_be_read_gives_nothing(tmp_path: Path, text: str) -> None:
    store = SqliteRateLimits(tmp_path / "limits.db")
    await store.take(SlotRequest(KEY, ONE, "a", 1, 30))
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE rate_limits SET book = ?", (text,))
    connection.close()
    with pytest.raises(StorageError, match=r"cannot be read.*delete it"):
        await store.take(SlotRequest(KEY, ONE, "b", 1, 30))
    await store.close()


async def test_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 50)
    store = SqliteRateLimits(path)
    with pytest.raises(StorageError, match=r"no SQLite database.*delete it") as told:
        await store.take(SlotRequest(KEY, ONE, "a", 1, 30))
    assert not isinstance(told.value, ConnectionFailed)  # which would be asked again and again
    await store.close()


def test_the_command_shows_what_a_service_counts(tmp_path: Path) -> None:
    program = """
import asyncio
from jts_storage import Storage, StorageSettings
from jts_storage.limiting import limiter_of

async def main():
    limiter = limiter_of(StorageSettings(), None)
    async with limiter.acquire("kis", "main", cost=2):
        pass
    await limiter.close()

asyncio.run(main())
"""
    environment = {
        **os.environ,
        "JTS_RATE_LIMITS": "kis=15/s,20000/d@Asia/Seoul;other=20/m",
        "JTS_DATA_DIR": str(tmp_path / "data"),
    }
    done = forked.run(["-c", program], env=environment, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    command = ["-m", "jts_storage.cli.main", "limits"]
    told = forked.run([*command, "--json"], env=environment, cwd=tmp_path, timeout=60)
    shown = {each["name"]: each for each in json.loads(told.stdout)}
    assert shown["kis"]["account"] == "main"
    assert shown["kis"]["limits"][1]["used"] == 2
    assert shown["kis"]["limits"][1]["timezone"] == "Asia/Seoul"
    assert shown["other"]["limits"][0]["remaining"] == 20
    table = forked.run([*command, "kis"], env=environment, cwd=tmp_path, timeout=60)
    assert "20,000 a day in Asia/Seoul" in table.stdout
    assert "other" not in table.stdout
    unknown = forked.run([*command, "kiss"], env=environment, cwd=tmp_path, timeout=60)
    assert unknown.returncode == 2
    assert "Did you mean 'kis'?" in unknown.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir())[0] == "rate_limits.db"
