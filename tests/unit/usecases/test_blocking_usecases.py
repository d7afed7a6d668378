"""The blocking twins do what the asynchronous use cases do."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path

import pytest

from jts_storage import Market, SeriesKey, Timeframe
from jts_storage.sync import Storage
from jts_storage.sync import usecases as blocking
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases import (
    coverage,
    export_candles,
    import_candles,
    quarantine,
    reconcile,
    validate,
)
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
        waiting = blocking.Quarantine(storage)
        assert (waiting.review(), waiting.release(), waiting.discard()) == ([], (0, 0), 0)
        coverage = blocking.Coverage(storage)
        assert coverage.keys() == [KEY]
        assert coverage.of(KEY).rows == 10
        until = START + timedelta(minutes=11)
        (wanted,) = coverage.plan_backfill(KEY, START, until)
        assert wanted.bars == 2
        coverage.record_empty(KEY, wanted.start, wanted.end)
        assert len(coverage.known_empty(KEY)) == 1
        assert coverage.plan_backfill(KEY, START, until) == []


@pytest.mark.parametrize(
    "original",
    [
        import_candles.ImportCandles,
        export_candles.ExportCandles,
        validate.ValidateCandles,
        coverage.Coverage,
        reconcile.Reconcile,
        quarantine.Quarantine,
    ],
)
def test_a_twin_has_every_method_and_option(original: type) -> None:
    twin = getattr(blocking, original.__name__)
    methods = {name for name in vars(original) if not name.startswith("_")}
    assert methods == {name for name in vars(twin) if not name.startswith("_")}
    for name in methods:
        asked, given = (inspect.signature(getattr(kind, name)) for kind in (original, twin))
        assert str(asked).split(" ->")[0] == str(given).split(" ->")[0], name
        assert asked.return_annotation == given.return_annotation, name
