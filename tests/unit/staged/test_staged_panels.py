"""Panels over what is staged, and the order of writes in whatever form they came."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.unit_of_work.staged import StagedCandles
from tests.unit.staged.test_staged_candles import (
    ALWAYS,
    KEY,
    KEYS,
    MINUTES,
    Pair,
    _work,
    at,
    minutes,
    ms,
)

M1 = Timeframe.M1


@settings(max_examples=25, deadline=None)
@given(before=_work, staged=_work, start=st.integers(-1, MINUTES), number=st.integers(1, 6))
def test_panels_over_what_is_staged(
    before: list[Any], staged: list[Any], start: int, number: int
) -> None:
    asyncio.run(panels_alike(before, staged, start, number))


async def panels_alike(before: list[Any], staged: list[Any], start: int, number: int) -> None:
    pair = Pair()
    await pair.work(*before, on=(pair.direct, pair.stored))
    await pair.work(*staged, on=(pair.direct, pair.staged))
    ends = at(start), at(start + MINUTES // 2)
    for options in ({}, {"last": number}, {"fields": ["close"]}, {"keys": KEYS[:2]}):
        await pair.same("get_panel", M1, *ends, **options)
    await pair.same("get_latest_panel", M1, number)
    await pair.same("get_latest_panel", M1, number, fields=["low", "close"])
    await pair.same("resample_panel", M1, Timeframe.M5, *ends)
    found: dict[SeriesKey, Any] = {}
    async for block in pair.staged.stream_panels(M1, *ends, block_rows=number):
        assert 0 < block.rows <= number
        for key, part in block.items():
            found[key] = found[key].merge(part) if key in found else part
    whole = await pair.direct.get_panel(M1, *ends)
    assert CandlePanel(M1, found.values()) == whole
    lows: list[int] = []
    async for block in pair.staged.stream_panels(M1, *ends, fields=["low"], block_rows=number):
        lows += block.column("low").tolist()
    assert lows == whole.columns.low.tolist()


_form = st.sampled_from(["few", "series", "panel"])
_saves = st.lists(  # forms in any order, with a look in between or not
    st.tuples(_form, st.sampled_from(KEYS), st.integers(0, 8), st.booleans()), max_size=8
)


@settings(max_examples=40, deadline=None)
@given(saves=_saves)
def test_the_latest_write_counts_in_whatever_form_it_came(saves: list[Any]) -> None:
    asyncio.run(latest_counts(saves))


async def latest_counts(saves: list[Any]) -> None:
    direct, staged = InMemoryBackend().candles, StagedCandles(InMemoryBackend().candles)
    for seed, (form, key, first, looks) in enumerate(saves):
        part = minutes(key, first, 5, seed)
        await direct.save_many(key, part)
        if form == "few":
            await staged.save_many(key, list(part))
        elif form == "series":
            await staged.save_many(key, part)
        else:
            await staged.save_panel(CandlePanel(M1, [part]))
        if looks:
            assert await staged.get_range(key, *ALWAYS) == await direct.get_range(key, *ALWAYS)
    direct_panel = await direct.get_panel(M1, *ALWAYS)
    rows = staged.changes.upserts
    assert CandlePanel(M1, rows) == direct_panel


@pytest.mark.parametrize("earlier", ["few", "series", "panel"])
@pytest.mark.parametrize("later", ["few", "series", "panel"])
async def test_the_later_of_two_writes_counts(earlier: str, later: str) -> None:
    await latest_counts([(earlier, KEY, 0, False), (later, KEY, 2, False)])


def test_a_deletion_outlives_a_look_at_the_rows() -> None:
    changes = CandleChanges()
    changes.delete(KEY, ms(0), ms(5))
    changes.save(SeriesRows.of(minutes(KEYS[1], 0, 3, 1)))
    assert changes.upserts.rows == 3
    assert changes.deletions == [(KEY, ms(0), ms(5))]
    changes.save(SeriesRows.of(minutes(KEY, 2, 1, 1)))
    assert changes.upserts.rows == 4
    assert changes.deletions == [(KEY, ms(0), ms(5))]


async def test_a_series_whose_deletion_is_staged_is_in_no_panel() -> None:
    stored = InMemoryBackend().candles
    for key in KEYS[:2]:
        await stored.save_many(key, minutes(key, 0, 5, 1))
    staged = StagedCandles(stored)
    await staged.delete_range(KEYS[0], *ALWAYS)
    left = CandlePanel(M1, [minutes(KEYS[1], 0, 5, 1)])
    assert await staged.get_panel(M1, *ALWAYS) == left
    assert await staged.get_panel(M1, *ALWAYS, fields=["close"]) == left.only("close")
    within = CandlePanel(M1, [minutes(KEYS[1], 0, 5, 1)[:4]])
    assert await staged.get_panel(M1, at(0), at(3), last=2) == within.tail(2)
    assert await staged.get_latest_panel(M1) == left.tail(1)
    assert [block async for block in staged.stream_panels(M1, *ALWAYS)] == [left]


async def test_no_panel_is_saved_after_the_end() -> None:
    lifetime = Lifetime()
    staged = StagedCandles(InMemoryBackend().candles, lifetime)
    lifetime.end("is over")
    with pytest.raises(StorageError, match="is over"):
        await staged.save_panel(CandlePanel(M1, [minutes(KEY, 0, 5, 1)]))
    assert not staged.changes
