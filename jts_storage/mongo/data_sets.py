"""The data set of a backtest as a part of its document, and back."""

from __future__ import annotations

from typing import Any

from bson import Int64

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.moments import Commit
from jts_storage.mongo.documents import DataSetFields
from jts_storage.mongo.values import several


def data_set_to_stored(data_set: DataSet, model: type[DataSetFields]) -> dict[str, Any]:
    series = model.nested("series")
    return model.stored_of(
        timeframe=data_set.timeframe.value,
        start=data_set.start,
        end=data_set.end,
        series=[series.stored_of(symbol=k.symbol, exchange=k.exchange) for k in data_set.keys],
        commit=Int64(data_set.commit.version),
    )


def data_set_from_fields(fields: DataSetFields) -> DataSet:
    timeframe = member(Timeframe, fields.timeframe, fields.path("timeframe"))
    return DataSet(
        timeframe=timeframe,
        start=fields.start,
        end=fields.end,
        keys=tuple(
            SeriesKey(each.symbol, timeframe, each.exchange) for each in several(fields.series)
        ),
        commit=Commit(int(fields.commit)),
    )
