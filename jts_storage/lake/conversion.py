"""What a lake is given as candles, and the form in which it gives them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.errors import InvalidData
from jts_storage.lake.files import with_timestamps
from jts_storage.lake.layout import Partition

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["series", "arrow", "pandas"]
_FORMATS = get_args(Format)


def series_of_data(
    data: Any, partition: Partition, exchange: str | None, floats: Floats
) -> CandleSeries:
    """Return a table, frame or sequence of candles as a series of the partition's key.

    :raises InvalidData: there is no candle, or one that no store may hold.
    """
    if isinstance(data, CandleSeries) and exchange is None:
        exchange = data.key.exchange
    key = SeriesKey(partition.symbol, Timeframe(partition.frame), exchange or "")
    library = type(data).__module__.partition(".")[0]
    if library == "polars":
        data, library = data.to_arrow(), "pyarrow"
    if library == "pyarrow":
        series = CandleSeries.from_arrow(key, with_timestamps(data), floats=floats)
    elif library == "pandas":
        series = CandleSeries.from_pandas(key, _with_timestamps(data), floats=floats)
    else:
        series = series_of(key, data)[0]
    if not len(series):
        raise InvalidData("must hold at least one candle", field="data")
    return series


def check_format(format: str) -> None:
    if format not in _FORMATS:
        raise InvalidData(f"must be one of {', '.join(_FORMATS)}", field="format", value=format)


def converted(series: CandleSeries, format: Format) -> Any:
    if format == "arrow":
        return series.to_arrow()
    return series.to_pandas() if format == "pandas" else series


def _with_timestamps(frame: pd.DataFrame) -> pd.DataFrame:
    if "timestamp" in frame.columns or "ts_ns" not in frame.columns:
        return frame
    import pandas as pd

    return frame.assign(timestamp=pd.to_datetime(frame["ts_ns"], unit="ns", utc=True))
