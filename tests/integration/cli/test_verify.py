"""Whether what a backtest saw is still what is stored, as the command line tells it."""

from __future__ import annotations

import json
from typing import Any

from jts_storage import Storage, StorageSettings
from jts_storage.domain.ids import new_document_id
from jts_storage.testing.contracts.data_sets import KEYS, commit, market, proven, rows, seen_by
from jts_storage.testing.contracts.samples import candle


async def test_a_backtest_is_verified(settings: StorageSettings, run: Any) -> None:
    async with Storage.open(settings) as storage:
        data_set, identity = await proven(storage)
    assert run("backtests", "verify", identity).out == f"Result {identity}: the same.\n"
    same = json.loads(run("backtests", "verify", identity, "--json").out)
    assert (same["is_same"], same["is_reproducible"], same["differing"]) == (True, True, [])
    assert same["commit"] == data_set.commit.version

    async with Storage.open(settings) as storage:
        await commit(storage, [rows(KEYS[3], candle(3, "99"), candle(40))], [(KEYS[2], 5, 9)])
        other = await storage.fingerprint(await market(storage))
        damaged = await seen_by(storage, data_set, other)
        nameless = await seen_by(storage, None, other)
        await commit(storage, [rows(KEYS[3], candle(3, "99"))], [(KEYS[2], 5, 9)])
    told = run("backtests", "verify", identity, code=1).out.splitlines()
    assert told[0] == f"Result {identity}: 7 candles of 2 series differ."
    assert told[1].split() == ["series", "rows", "added", "corrected", "deleted"]
    assert sorted(line.split() for line in told[2:]) == [
        ["KRX:005930/1m", "2", "1", "1", "0"],
        ["KRX:가나/1m", "5", "0", "0", "5"],
    ]
    differs = json.loads(run("backtests", "verify", identity, "--json", code=1).out)
    assert (differs["is_same"], differs["is_reproducible"]) == (False, True)
    assert {"series": "KRX:005930/1m", "rows": 2, "added": 1, "corrected": 1, "deleted": 0} in (
        differs["differing"]
    )
    assert "the history is damaged" in run("backtests", "verify", damaged, code=1).out

    assert "nobody knows what it saw" in run("backtests", "verify", nameless, code=2).err
    unknown = new_document_id()
    assert run("backtests", "verify", unknown, code=2).err == (
        f"Error: There is no result {unknown}. `list` shows what there is.\n"
    )
