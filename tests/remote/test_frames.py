"""Candles and rows of tables come back as they went, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import frames, parts, wire
from jts_storage.remote.parts import Assembly, parts_of
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
OTHER = SeriesKey("000660", Timeframe.M1, "KRX")


def travelled(given: Any, *, compressed: bool = False) -> Any:
    assembly, found = Assembly(), []
    for part in parts_of(given, compressed=compressed):
        found += assembly.add(wire.deserialized(wire.serialized(part)))
    assert assembly.is_empty
    (value,) = found
    return value


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("rows", [0, 1, frames.ROWS, frames.ROWS + 1, 3 * frames.ROWS])
def test_a_series_of_any_length(rows: int, compressed: bool) -> None:
    few = CandleSeries(KEY, make_candles(KEY, min(rows, 100)))
    columns = few.columns.each(lambda column: np.resize(column, rows))
    series = CandleSeries.trusted(KEY, columns._replace(timestamp=np.arange(rows) * 60_000))
    found = travelled(series, compressed=compressed)
    assert found == series
    assert found.key == KEY


@pytest.mark.parametrize("compressed", [False, True])
def test_a_panel_with_some_fields(compressed: bool) -> None:
    panel = CandlePanel(
        Timeframe.M1, [CandleSeries(key, make_candles(key, 5)) for key in (KEY, OTHER)]
    )
    assert travelled(panel, compressed=compressed) == panel
    assert travelled(panel.only("close"), compressed=compressed) == panel.only("close")
    assert travelled(CandlePanel.empty(Timeframe.D1)) == CandlePanel.empty(Timeframe.D1)


def test_ranges_keep_the_order_that_was_asked_for() -> None:
    given = {
        OTHER: CandleSeries(OTHER, make_candles(OTHER, 3)),
        KEY: CandleSeries.empty(KEY),
    }
    assert list(travelled(given).items()) == list(given.items())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 500_000])
def test_rows_of_a_table(rows: int, compressed: bool) -> None:
    table = pa.table({"n": np.arange(rows), "text": [str(n) for n in range(rows)]})
    assert travelled(table, compressed=compressed).equals(table)


def test_a_value_that_is_larger_than_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE_BYTES", 100)
    given = [f"text {number}" for number in range(200)]
    assert len(list(parts_of(given))) > 10
    assert travelled(given) == given


def test_columns_lie_where_they_can_be_used() -> None:
    found = travelled(CandleSeries(KEY, make_candles(KEY, 10)))
    assert all(column.flags.aligned for column in found.columns)


def test_bytes_are_what_protobuf_makes_of_the_message() -> None:
    for size in (0, 1, 127, 128, 70_000):
        data = bytes(size)
        part = pb.Part.FromString(wire.serialized(wire.Batch(data)))
        assert part.batch == data
        assert wire.deserialized(pb.Part(batch=data).SerializeToString()) == wire.Batch(data)


@pytest.mark.parametrize(
    "message",
    [
        pb.Columns(shape=pb.Columns.SERIES, batches=1, offsets=[0, 1], fields=["close"]),
        pb.Columns(
            shape=pb.Columns.SERIES,
            batches=9,
            offsets=[0, 1],
            keys=[pb.Key(symbol="A", timeframe="1m")],
        ),
        pb.Columns(
            shape=pb.Columns.PANEL,
            batches=1,
            offsets=[0, -1],
            keys=[pb.Key(symbol="A", timeframe="1m")],
        ),
        pb.Columns(shape=pb.Columns.SERIES, batches=0, offsets=[0], fields=["price"]),
    ],
)
def test_columns_that_contradict_themselves_are_refused(message: pb.Columns) -> None:
    with pytest.raises(InvalidData):
        frames.Arriving(message)


def test_a_batch_of_other_rows_is_refused() -> None:
    message, batches = frames.message_of(CandleSeries(KEY, make_candles(KEY, 3)))
    message.offsets[1] = 4
    arriving = frames.Arriving(message)
    arriving.add(next(batches))
    with pytest.raises(InvalidData):
        arriving.made()
    with pytest.raises(InvalidData):
        frames.Arriving(message).add(b"no batch")
