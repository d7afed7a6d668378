"""What ends within calls is counted exactly: recoveries, migrations, imports, held ranges."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from jts_storage import (
    CandleSeries,
    DomainEvent,
    InvalidData,
    Market,
    SeriesKey,
    Storage,
    StorageError,
    StorageSettings,
    Timeframe,
    new_unit_id,
)
from jts_storage._runtime.processes import this_process
from jts_storage._runtime.steps import IMPORT, Ended, listener
from jts_storage.domain import checks
from jts_storage.migrate import files, runner
from jts_storage.observe import Metrics, Observers, SlowCalls
from jts_storage.ports.observation import Call
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.listed import CLOCK_ID, CLOCK_NAME
from jts_storage.unit_of_work.recovery import Recovery
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.import_files import ImportFiles
from jts_storage.usecases.results import COUNTS

DEAD = f"{this_process().rsplit('/', 1)[0]}/0"
KEY = SeriesKey("A", Timeframe.M1)
_COMMIT = Call("storage", "unit_of_work", "commit")
OUTCOMES = ("finished", "failed", "rolled_back", "abandoned")


class Killed(BaseException):
    """The process died here."""


class Noted(DomainEvent):
    """A commit that has one is journalled."""


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"jts_storage_{name}", labels) or 0.0


def recoveries(metrics: Metrics) -> dict[str, float]:
    return {each: value(metrics, "recoveries_total", outcome=each) for each in OUTCOMES}


# ---- recoveries


async def left(storage: Storage, number: int) -> None:
    """Commits that were decided, of a process that is gone since."""

    def die(point: str) -> None:
        if point == "decided":
            raise Killed

    for n in range(number):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(commit_points, "reached", die)
            async with storage.unit_of_work() as uow:
                await uow.formulas.save(make_formula(f"left {n}"))
                uow.events.add(Noted())
                await uow.commit()
    await storage.mongo.db[ENTRIES].update_many({}, {"$set": {"owner": DEAD}})
    journal._in_hand.clear()


async def test_what_others_left_is_counted_by_what_became_of_it(
    fresh_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    async with Storage.open(fresh_settings, observer=metrics) as storage:
        await left(storage, 3)
        with monkeypatch.context() as patch, pytest.raises(StorageError):

            async def fails(*_: object) -> None:
                raise StorageError("full")

            patch.setattr(Recovery, "_finish", fails)
            await storage.recover()
        assert recoveries(metrics) == {
            "finished": 0,
            "failed": 3,
            "rolled_back": 0,
            "abandoned": 0,
        }
        assert await storage.recover() == 3
        for identity in (new_unit_id(), new_unit_id()):
            for _ in range(2):  # the second answer is that of the first
                assert not (await storage.outcome(identity)).is_committed
        await begun_by_the_dead(storage)
        assert await storage.recover() == 0
        await left(storage, 1)
        async with storage.subscribe("consumer") as events:  # no call: whoever waits finishes it
            source: Any = events._source  # type: ignore[attr-defined]
            source._is_held_up, source._recovered_at = True, -60.0
            await source._recover_now_and_then()
        assert recoveries(metrics)["finished"] == 4
        await left(storage, 1)
    async with Storage.open(fresh_settings, observer=metrics):
        pass  # opening finishes it
    assert recoveries(metrics) == {"finished": 5, "failed": 3, "rolled_back": 2, "abandoned": 1}
    assert value(metrics, "recovery_seconds_count") == 8
    assert value(metrics, "recovery_seconds_sum") > 0


async def begun_by_the_dead(storage: Storage) -> None:
    """Let the clock list a commit that has begun and was never decided."""
    one = {
        "id": ObjectId(),
        "version": 1,
        "owner": DEAD,
        "until": checks.now() + timedelta(minutes=3),
        "eventKeys": [],
        "series": [],
    }
    clock = storage.mongo.db[CLOCK_NAME]
    await clock.update_one({"_id": CLOCK_ID}, {"$push": {"running": one}}, upsert=True)


async def test_a_commit_that_finishes_others_first_has_no_step_of_theirs() -> None:
    metrics = Metrics()
    async with Storage.in_memory(observer=metrics) as storage:
        begun = metrics.begin(_COMMIT)
        begun.reached("before the journal")
        begun.reached(Ended("recovery", "finished", seconds=2.0))
        begun.reached("decided")
        begun.done(None)
        text = await storage.metrics()
    assert value(metrics, "recovery_seconds_sum") == 2.0
    steps = [line for line in text.splitlines() if "commit_step_seconds_count{" in line]
    assert [line.partition("step=")[2] for line in steps] == ['"decided"} 1.0']


# ---- migrations


async def test_each_migration_is_counted_by_store(tmp_path: Path) -> None:
    metrics = Metrics()
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    async with Storage.open(settings, observer=metrics) as storage:
        databases = runner.Databases(storage.clickhouse, storage.mongo, storage.database)
        lines = await runner.status(databases)
    expected = Counter(files.KNOWN_AS[line.store] for line in lines)
    counted = {
        store: value(metrics, "migrations_total", store=store, outcome="applied")
        for store in expected
    }
    assert counted == expected
    for store, number in expected.items():
        assert value(metrics, "migration_seconds_count", store=store) == number
        assert value(metrics, "migrations_total", store=store, outcome="failed") == 0


async def test_a_migration_that_fails_and_one_taken_back_are_counted(
    tmp_path: Path, fresh_settings: StorageSettings
) -> None:
    """Within any call that is observed, in whatever thread they run."""
    metrics = Metrics()
    made = tmp_path / "own" / "relational" / "0001_made.py"
    made.parent.mkdir(parents=True)
    text = 'revision = "0001"\ndown_revision = None\n\n\ndef upgrade():\n    {}\n\n\n'
    made.write_text(text.format('raise RuntimeError("half done")') + "def downgrade():\n    pass\n")
    async with Storage.open(fresh_settings, observer=metrics) as storage:
        own = runner.Databases(database=storage.database, service=made.parent.parent)
        heard = metrics.begin(_COMMIT._replace(repository="storage", operation="open"))
        token = listener.set(heard)
        with pytest.raises(StorageError, match="half done"):
            await runner.up(own)
        made.write_text(made.read_text().replace('raise RuntimeError("half done")', "pass"))
        await runner.up(own)
        await runner.down(own)
        listener.reset(token)
        heard.done(None)
    counted = {
        outcome: value(metrics, "migrations_total", store="database", outcome=outcome)
        for outcome in ("applied", "failed", "taken_back")
    }
    assert counted == {"applied": 1, "failed": 1, "taken_back": 1}
    assert value(metrics, "migration_seconds_count", store="database") == 3


# ---- imports


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("t,o,h,l,c,v\n" + "".join(f"{row}\n" for row in rows))
    return path


def rows_of(count: int, first: int = 0) -> list[str]:
    return [f"{1_704_153_600 + 60 * n},10,12,9,11,{n}" for n in range(first, first + count)]


def counted(metrics: Metrics) -> dict[str, int]:
    found = {each: int(value(metrics, "import_rows_total", outcome=each)) for each in COUNTS}
    return found | {"read": sum(found.values())}


async def test_rows_files_and_runs_of_imports_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    rows = rows_of(1_000)
    broken = [*rows[:700], "no time,1,1,1,1,1", rows[0], *rows[700:]]
    options = ImportOptions(create=Market.KOSPI, block_rows=100, on_error="quarantine")
    observer = Observers(SlowCalls(threshold=0.0), metrics)
    async with Storage.in_memory(observer=observer) as storage:
        use_case = ImportCandles(storage)

        async def run(data: Any, progress: Any = None) -> dict[str, int]:
            result = await use_case.run(
                data, Timeframe.M1, symbol="A", options=options, progress=progress
            )
            return {name: getattr(result, name) for name in COUNTS}

        def dies(at: ImportProgress) -> None:
            if at.rows >= 500:
                raise Killed

        path = write(tmp_path / "a.csv", broken)
        with pytest.raises(Killed):
            await run(path, dies)
        assert counted(metrics)["read"] == 500
        # Goes on where it stopped, and writes the block again that was not noted to be stored. Its
        # report is of both runs.
        first = await run(path)
        again = {name: 100 * (name in ("read", "inserted")) for name in COUNTS}
        assert counted(metrics) == {name: first[name] + again[name] for name in COUNTS}
        assert first["read"] == 1_002
        assert first["quarantined"] == 1
        other = await run(CandleSeries(KEY, make_candles(KEY, 50)))
        assert other["read"] == 50
        assert counted(metrics) == {n: first[n] + again[n] + other[n] for n in COUNTS}
        (tmp_path / "b.csv").write_text("nothing that has columns\n")
        with pytest.raises(InvalidData):
            await run(tmp_path / "b.csv")
    assert {
        labels: value(metrics, "imports_total", source=labels[0], outcome=labels[1])
        for labels in (("file", "finished"), ("file", "failed"), ("data", "finished"))
    } == {("file", "finished"): 1, ("file", "failed"): 2, ("data", "finished"): 1}
    assert value(metrics, "imports_resumed_total") == 1
    assert value(metrics, "import_seconds_count") == 4
    of_imports = {"store": "memory", "repository": "imports", "operation": "run"}
    assert value(metrics, "call_seconds_count", **of_imports) == 4
    assert value(metrics, "call_errors_total", **of_imports, error="exit") == 1
    slow = [each.__dict__ for each in caplog.records if each.name == "jts_storage.slow"]
    assert slow
    assert "imports" not in {each["repository"] for each in slow}


async def test_each_file_of_several_is_an_import(tmp_path: Path) -> None:
    metrics = Metrics()
    for name in "ABC":
        write(tmp_path / f"{name}.csv", rows_of(50))
    (tmp_path / "B.csv").write_text("nothing that has columns\n")
    options = ImportOptions(create=Market.KOSPI, on_error="quarantine")
    async with Storage.in_memory(observer=metrics) as storage:
        result = await ImportFiles(storage).run(
            [tmp_path], Timeframe.M1, symbol_from_name=True, options=options
        )
    assert len(result.refused) == 1
    assert value(metrics, "imports_total", source="file", outcome="finished") == 2
    assert value(metrics, "imports_total", source="file", outcome="failed") == 1
    assert value(metrics, "import_rows_total", outcome="inserted") == 100


async def test_an_import_that_nobody_observes_tells_nobody(tmp_path: Path) -> None:
    async with Storage.in_memory() as storage:
        assert storage.observation is None
        path = write(tmp_path / "a.csv", rows_of(5))
        options = ImportOptions(create=Market.KOSPI)
        result = await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
    assert result.inserted == 5


def test_who_knows_no_figures_hears_a_step() -> None:
    ended = Ended(IMPORT, "file", "failed", seconds=1.0)
    assert ended == "import: file failed"
    assert f"{ended}" == "import: file failed"


# ---- held ranges


async def test_hits_misses_and_bytes_of_held_ranges(fresh_settings: StorageSettings) -> None:
    metrics = Metrics()
    candles = make_candles(KEY, 500)
    first, last = candles[0].timestamp, candles[-1].timestamp
    async with Storage.open(fresh_settings, observer=metrics) as storage:

        async def held(name: str) -> float:
            text = await storage.metrics()
            (line,) = [
                each for each in text.splitlines() if each.startswith(f"jts_storage_{name} ")
            ]
            return float(line.rpartition(" ")[2])

        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles)
            await uow.commit()
        assert await held("held_range_bytes") == 0
        for _ in range(4):
            await storage.candles.get_range(KEY, first, last)
        for _ in range(3):
            await asyncio.gather(*(storage.candles.get_latest(KEY) for _ in range(2)))
        found = {
            name: [
                value(metrics, f"held_{name}_total", operation=operation)
                for operation in ("get_range", "get_latest")
            ]
            for name in ("answers", "misses")
        }
        calls = {"get_range": 4, "get_latest": 6}
        assert [sum(each) for each in zip(*found.values(), strict=True)] == [*calls.values()]
        assert found["answers"][0] == 3
        assert await held("held_ranges") == 1
        size = await held("held_range_bytes")
        assert 500 * 48 <= size <= 2 * 500 * 48 + 4_096
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, first, last)
            await uow.commit()
        await storage.candles.get_range(KEY, first, last)
        assert await held("held_range_bytes") < size
