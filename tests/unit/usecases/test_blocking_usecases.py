"""The blocking twins do what the asynchronous use cases do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from jts_storage import Market, SeriesKey, Timeframe
from jts_storage.sync import Storage
from jts_storage.sync import usecases as blocking
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases.import_candles import ImportOptions

KEY = SeriesKey("005930", Timeframe.M1)


def test_every_use_case_has_a_blocking_twin(tmp_path: Path) -> None:
    series = make_candles(KEY, 10)
    with Storage.in_memory() as storage:
        result = blocking.ImportCandles(storage).run(
            series, KEY.timeframe, symbol=KEY.symbol, options=ImportOptions(create=Market.KOSPI)
        )
        assert result.inserted == 10
        assert blocking.ExportCandles(storage).run(KEY, tmp_path / "out.csv").rows == 10
        assert blocking.ValidateCandles(storage).run(KEY).is_clean
        assert blocking.Reconcile(storage).run(KEY) == []
        coverage = blocking.Coverage(storage)
        assert list(coverage.keys()) == [KEY]
        assert coverage.of(KEY).rows == 10
        until = START + timedelta(minutes=11)
        (wanted,) = coverage.plan_backfill(KEY, START, until)
        assert wanted.bars == 2
        coverage.record_empty(KEY, wanted.start, wanted.end)
        assert coverage.plan_backfill(KEY, START, until) == []
