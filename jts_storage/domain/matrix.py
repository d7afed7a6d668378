"""One field of many series as an array of times and series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import (
    FIELDS,
    PRICES,
    AnyArray,
    Int64Array,
    sealed,
    series_of_rows,
)
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    from jts_storage.domain.panel import CandlePanel


@dataclass(frozen=True, slots=True, eq=False)
class PanelMatrix:
    """Values by time and series.

    :ivar times: milliseconds since 1970, one a row.
    :ivar keys: the series, one a column.
    :ivar values: floats with NaN, or exact integers (prices times 10**4) with 0 where nothing is.
    :ivar present: where there is a value, filled ones included.
    :ivar field: what the values are of.
    """

    times: Int64Array
    keys: tuple[SeriesKey, ...]
    values: AnyArray
    present: npt.NDArray[np.bool_]
    field: str

    @classmethod
    def of(
        cls, panel: CandlePanel, field: str, *, floats: bool, fill: bool, times: Any
    ) -> PanelMatrix:
        if field not in FIELDS:
            raise InvalidData(f"must be one of {', '.join(FIELDS)}", field="field", value=field)
        column, stamps = panel.column(field), panel.column("timestamp")
        axis = np.unique(stamps) if times is None else _ascending(times)
        row = np.searchsorted(axis, stamps)
        series = series_of_rows(panel.offsets)
        if times is not None:
            # What lies between two times is the last value at the second of them.
            belongs = row < len(axis) if fill else np.isin(stamps, axis)
            row, series, column = row[belongs], series[belongs], column[belongs]
        shape = (len(axis), len(panel))
        present = np.zeros(shape, np.bool_)
        present[row, series] = True
        values: AnyArray
        if floats:
            values = np.full(shape, np.nan)
            values[row, series] = column / _scale_of(field)
        else:
            values = np.zeros(shape, column.dtype)
            values[row, series] = column
        if fill and len(axis):
            values, present = _forward_filled(values, present)
        return cls(sealed(axis), tuple(panel), sealed(values), sealed(present), field)

    def to_pandas(self) -> Any:
        """A frame of floats: a row a time in UTC, a column a symbol and exchange.

        Exact integers become the nearest floats, and NaN where nothing is.
        """
        from jts_storage.domain.interchange import library

        pd = library("pandas")
        index = pd.DatetimeIndex(self.times.view("M8[ms]"), name="timestamp").tz_localize("UTC")
        names = pd.MultiIndex.from_tuples(
            [(key.symbol, key.exchange) for key in self.keys], names=["symbol", "exchange"]
        )
        values = self.values
        if values.dtype.kind != "f":
            values = np.where(self.present, values / _scale_of(self.field), np.nan)
        return pd.DataFrame(values, index=index, columns=names)


def _scale_of(field: str) -> int:
    return checks.PRICE_SCALE if field in PRICES else 1


def _forward_filled(
    values: AnyArray, present: npt.NDArray[np.bool_]
) -> tuple[AnyArray, npt.NDArray[np.bool_]]:
    """Repeat the last value of each column where there is none."""
    rows = np.where(present, np.arange(len(present))[:, None], 0)
    latest = np.maximum.accumulate(rows, axis=0)
    filled: AnyArray = np.take_along_axis(values, latest, axis=0)
    return filled, np.logical_or.accumulate(present, axis=0)


def _ascending(times: Any) -> Int64Array:
    axis = np.array(times)
    if axis.ndim != 1:
        raise InvalidData(
            "must be one row of times", field="times", value=f"{axis.ndim} dimensions"
        )
    if axis.dtype.kind == "M":
        axis = axis.astype("M8[ms]")
    elif axis.dtype.kind == "O":  # datetimes, also of an index of pandas
        moments = [checks.utc(each, "times", row=row) for row, each in enumerate(axis)]
        axis = np.array([checks.to_ms(each) for each in moments], np.int64)
    elif axis.dtype.kind not in "iu" and len(axis):
        raise InvalidData(
            "must be milliseconds, datetime64 or datetimes", field="times", value=str(axis.dtype)
        )
    made: Int64Array = axis.astype(np.int64)
    if len(made) > 1 and not (made[1:] > made[:-1]).all():
        raise InvalidData("must ascend", field="times")
    return made
