"""What was corrected of a series, in a terminal and as data."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Commit, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.cli import history_reading
from jts_storage.cli.history import _table
from jts_storage.cli.history_reading import Asked
from jts_storage.domain.correction import Correction
from jts_storage.errors import StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.reading import ReadingBackend
from jts_storage.testing.contracts.samples import candle, minute
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.moments import Moments
from tests.integration.cli.conftest import Shell, environment_of, shell_in, stores_in
from tests.prepared import Prepared

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
HOSTILE = "<script>alert(1)</script>\x1b[31m[bold]"


async def commit(storage: Storage, source: str, *closes: tuple[int, str]) -> Commit:
    async with storage.unit_of_work(source=source) as uow:
        await uow.candles.save_many(KEY, [candle(at, close) for at, close in closes])
        result = await uow.commit()
    assert result.commit is not None
    return result.commit


async def corrected(storage: Storage) -> tuple[Commit, Commit]:
    """Six candles, two corrections of one, and one that was deleted; the first commits."""
    first = await commit(storage, "import", *((at, "103") for at in range(6)))
    second = await commit(storage, "vendor", (1, "104"))
    await storage.snapshots.create("scan")
    await commit(storage, HOSTILE, (1, "101.5"))
    async with storage.unit_of_work(source="cleaning") as uow:
        await uow.candles.delete_range(KEY, minute(3), minute(3))
        await uow.commit()
    return first, second


@dataclass(frozen=True)
class Reader:
    """For tests that only read: a series that was corrected, and what shows it."""

    run: Shell
    commits: tuple[Commit, Commit]
    folder: Path


@pytest.fixture(scope="module")
def reader(
    tmp_path_factory: pytest.TempPathFactory, calendars: Path, prepared: Prepared
) -> Iterator[Reader]:
    async def fill() -> tuple[Commit, Commit]:
        async with Storage.open(settings) as storage:
            return await corrected(storage)

    folder = tmp_path_factory.mktemp("history")
    with stores_in(folder, calendars, prepared) as settings:
        commits = asyncio.run(fill())
        with shell_in(folder, settings, holds=True) as shell:
            yield Reader(shell, commits, folder)


def test_corrections_are_shown(reader: Reader) -> None:
    run = reader.run
    shown = run("history", "KRX:005930/1m")
    assert "\x1b" not in shown.out
    lines = shown.out.splitlines()
    assert lines[0].split() == ["when", "source", "candle", "field", "from", "to"]
    told = [line.split("UTC ", 1)[1].split() for line in lines[1:-1]]
    day = f"{minute(1):%Y-%m-%d}"
    assert told[0] == ["vendor", day, f"{minute(1):%H:%M}", "close", "103.0000", "104.0000"]
    assert told[1][-3:] == ["close", "104.0000", "101.5000"]
    assert told[1][0].startswith("<script>alert(1)</script>") and "[bold]" in lines[2]
    assert told[2] == [
        *("cleaning", day, f"{minute(3):%H:%M}"),
        *("candle", "close", "103.0000", "deleted"),
    ]
    assert lines[-1] == "2 corrections and 1 deletion of 2 candles"
    begins = "--start", minute(2).isoformat()
    deletion = run("history", "KRX:005930/1m", *begins).out
    assert deletion.splitlines()[-1] == "1 deletion of 1 candle"


def test_corrections_are_given_as_data(reader: Reader) -> None:
    run = reader.run
    found = json.loads(run("history", "KRX:005930/1m", "--json", "--timezone", "Asia/Seoul").out)
    assert [each["change"] for each in found] == ["corrected", "corrected", "deleted"]
    assert [each["fields"] for each in found[:2]] == [["close"], ["close"]]
    assert found[1]["source"] == HOSTILE
    assert (found[1]["before"]["close"], found[1]["after"]["close"]) == ("104.0000", "101.5000")
    assert found[2]["after"] is None
    assert found[0]["timestamp"].endswith("+09:00")
    rows = list(csv.DictReader(StringIO(run("history", "KRX:005930/1m", "--csv").out)))
    assert [(row["change"], row["field"]) for row in rows[:3]] == [
        *[("corrected", "close")] * 2,
        ("deleted", "open"),
    ]
    assert len(rows) == 2 + 5
    assert rows[1]["source"] == HOSTILE
    few = run("history", "KRX:005930/1m", "--json", "--limit", "2")
    assert len(json.loads(few.out)) == 2
    assert few.err == "There are more than 2 corrections: --limit 0 shows all.\n"
    assert run("history", "KRX:005930/1m", "--limit", "1", "--json").err == (
        "There is more than 1 correction: --limit 0 shows all.\n"
    )
    assert run("history", "KRX:005930/1m", "--limit", "0", "--json").err == ""


def test_a_range_of_commits_is_shown(reader: Reader) -> None:
    run, (first, second) = reader.run, reader.commits

    def sources(*asked: str) -> list[str]:
        found = json.loads(run("history", "KRX:005930/1m", "--json", *asked).out)
        return [each["source"] for each in found]

    assert sources("--since", second.moment.isoformat()) == [HOSTILE, "cleaning"]
    assert sources("--since", "scan") == [HOSTILE, "cleaning"]
    assert sources("--until", second.moment.isoformat()) == ["vendor"]
    assert sources("--since", "scan", "--until", second.moment.isoformat()) == []
    assert sources("--start", minute(2).isoformat()) == ["cleaning"]
    assert sources("--end", minute(2).isoformat()) == ["vendor", HOSTILE]
    nothing = run("history", "KRX:005930/1m", "--until", first.moment.isoformat())
    assert nothing.out == (
        "Nothing of KRX:005930/1m was corrected there, as far as history is kept.\n"
    )
    assert sources("--since", str(second.version)) == [HOSTILE, "cleaning"]
    unknown = run("history", "KRX:005930/1m", "--since", "2026-11-31", code=2).err
    assert "'2026-11-31' is neither a moment" in unknown and "there are: scan." in unknown
    future = run("history", "KRX:005930/1m", "--since", "2250-01-01", code=2)
    assert "lies in the future" in future.err
    assert run("history", "005930/1m", code=2).err == (
        "Error: No candles of 005930/1m are stored."
        " The exchange is part of a series: write KRX:005930/1m.\n"
    )
    assert run("history", "000660/1m", code=2).err == (
        "Error: No candles of 000660/1m are stored. `jts-storage coverage` lists what is."
        " The exchange is part of a series, as in KRX:000660/1m.\n"
    )
    misspelled = run("history", "KRX:000660/1m", code=2).err
    assert misspelled.endswith("are stored. `jts-storage coverage` lists what is.\n")
    assert "must read as KRX:005930/1m" in run("history", "005930", code=2).err
    assert "none of market" in run("history", "005930/1m", "--colors", "pink", code=2).err


def test_a_day_until_which_is_asked_counts_whole(reader: Reader) -> None:
    day = f"{reader.commits[1].moment:%Y-%m-%d}"
    found = json.loads(reader.run("history", "KRX:005930/1m", "--json", "--until", day).out)
    assert found[0]["source"] == "vendor"


def test_more_corrections_are_told_of_only_where_they_may_be_wanted(reader: Reader) -> None:
    run, until = reader.run, ("--until", reader.commits[1].moment.isoformat())
    assert run("history", "KRX:005930/1m", *until, "--limit", "2").err == ""
    assert "more than 1" in run("history", "KRX:005930/1m", *until, "--limit", "1").err


async def test_a_chart_has_each_candle_that_was_corrected_and_some_of_the_others() -> None:
    key = SeriesKey("A", Timeframe.M1)
    series = make_candles(key, 2_000)
    async with Storage.in_memory() as storage:
        for saved in (series, [replace(series[at], volume=7) for at in (1, 1_001, 1_997)]):
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(key, saved)
                await uow.commit()
        asked = Asked(key=key, since=None, until=None, start=None, end=None, limit=0)
        found = await asked.read(storage, with_candles=True)
    drawn = [each.timestamp for each in found.candles]
    assert {series[at].timestamp for at in (1, 1_001, 1_997)} <= set(drawn)
    assert len(drawn) < 700
    assert drawn == sorted(drawn)


def test_the_time_of_a_candle_is_shown_with_its_seconds_where_it_has_any() -> None:
    one = replace(candle(1), timestamp=minute(1) + timedelta(seconds=5))
    corrections = (
        Correction(Commit(1), "", each, replace(each, volume=9)) for each in (candle(2), one)
    )
    times = [row[2] for row in _table(list(corrections), UTC)]
    assert times == [f"{minute(2):%Y-%m-%d %H:%M}", f"{minute(1):%Y-%m-%d %H:%M}:05+00:00"]


async def test_what_was_purged_is_told(settings: StorageSettings, run: Any) -> None:
    async with Storage.open(settings) as storage:
        first, _ = await corrected(storage)
        await storage.candles.purge_history(despite_snapshots=True)
    answer = run("history", "KRX:005930/1m", "--since", first.moment.isoformat(), code=2)
    assert "it was purged, and begins at" in answer.err
    assert run("history", "KRX:005930/1m").out == (
        "Nothing of KRX:005930/1m was corrected, as far as history is kept.\n"
    )


def test_a_page_is_written(reader: Reader) -> None:
    run, folder = reader.run, reader.folder
    shown = run("history", "KRX:005930/1m", "--html", "pages/history.html", "--colors", "west")
    assert shown.out.endswith("Written: pages/history.html\n")
    assert "<script>alert" not in (folder / "pages" / "history.html").read_text("utf-8")
    refused = run("history", "KRX:005930/1m", "--html", "prices.csv/history.html", code=2)
    assert "cannot be written" in refused.err


async def test_without_a_moment_no_mongod_is_started(
    embedded: StorageSettings, monkeypatch: pytest.MonkeyPatch, engine_used: Callable[[str], None]
) -> None:
    engine_used("chDB")
    async with Storage.open(embedded) as storage:
        await corrected(storage)

    def refused(*_: object, **__: object) -> LocalMongod:
        raise AssertionError("mongod was started")

    monkeypatch.setattr(LocalMongod, "acquire", refused)
    backend = ReadingBackend(embedded)
    async with Storage(backend) as storage:
        assert backend.is_partial
        assert len(await storage.candles.changes(KEY)) == 3


async def test_what_is_not_kept_any_more_is_told_as_no_deletion(embedded: StorageSettings) -> None:
    """Where ClickHouse alone cannot tell, MongoDB is asked; nobody else runs it meanwhile."""
    async with Storage.open(embedded) as storage:
        await commit(storage, "import", (1, "103"))
        await storage.snapshots.create("first")
        await commit(storage, "vendor", (1, "104"))
        await commit(storage, "vendor", (1, "105"))
        await Moments(storage._backend.stores).forget(days=0)  # type: ignore[attr-defined]
        await commit(storage, "import", (4, "103"))
        async with storage.unit_of_work(source="cleaning") as uow:
            await uow.candles.delete_range(KEY, minute(4), minute(4))
            await uow.commit()
        await commit(storage, "again", (4, "107"))
    backend = ReadingBackend(embedded)
    async with Storage(backend) as storage:
        assert backend.is_partial
        assert await storage.candles.changes(KEY, minute(5), minute(9)) == []
        with pytest.raises(StorageError, match="not known here"):
            await storage.candles.changes(KEY)
    alone = Shell(embedded.data_dir.parent, environment_of())
    try:
        found = json.loads((await asyncio.to_thread(alone, "history", str(KEY), "--json")).out)
    finally:
        alone.close()
    assert [(each["source"], each["change"]) for each in found] == [("cleaning", "deleted")]


@pytest.mark.parametrize(
    ("limit", "until", "told"),
    [(0, 9, (5, False)), (3, 9, (3, True)), (5, 9, (5, False)), (0, 3, (3, False))],
)
async def test_corrections_are_read_page_by_page(
    monkeypatch: pytest.MonkeyPatch, limit: int, until: int, told: tuple[int, bool]
) -> None:
    monkeypatch.setattr(history_reading, "_PAGE", 2)
    async with Storage.in_memory() as storage:
        commits = [await commit(storage, "vendor", (1, str(close))) for close in range(100, 106)]
        last = commits[until].moment if until < len(commits) else None
        asked = history_reading.Asked(
            key=KEY, since=None, until=last, start=None, end=None, limit=limit
        )
        found = await asked.read(storage, with_candles=False)
    assert (len(found.corrections), found.has_more) == told
    expected = commits[1 : len(found.corrections) + 1]
    assert [each.commit for each in found.corrections] == expected
