"""Find the column of each field from the headers of a source, or as the caller says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jts_storage._runtime.surface import column_option, numbered_columns, option
from jts_storage.domain.columns import FIELDS
from jts_storage.errors import InvalidData
from jts_storage.readers.refusals import LayoutMissing

_KNOWN = {
    "timestamp": "timestamp datetime ts t stamp opentime barstart starttime begin start 일시 시각 "
    "날짜시간 일자시간 체결일시 거래일시",
    "date": "date startdate tradedate day d 일자 날짜 거래일 거래일자 영업일자 기준일",
    "time": "time hour 시간 체결시간 거래시간",
    "open": "open o openprice first 시가 시초가",
    "high": "high h highprice max 고가 최고가",
    "low": "low l lowprice min 저가 최저가",
    "close": "close c closeprice last 종가 현재가",
    "volume": "volume vol v qty quantity tradevolume 거래량 체결량 누적거래량",
    "symbol": "symbol ticker tic code stock stockcode instrument pair 종목코드 단축코드 종목",
    "exchange": "exchange exchangecode exchangename exch venue mic 거래소 거래소명 거래소코드",
    # <PER> of Metastock's format; a bare PER is a ratio of price and earnings.
    "timeframe": "timeframe tf interval barinterval barsize <per> period periodicity resolution "
    "granularity freq frequency 주기 봉주기 봉 시간프레임",
    "market": "market markettype marketname 시장 시장구분 시장명",
    "deleted": "isdeleted deleted",
}
_SHOWN = 300
_PARQUET_INDEX = "__index_level_0__"
_UNNAMED = re.compile(rf"(Unnamed: 0|{_PARQUET_INDEX})?")
_VALUE = re.compile(r"[\d.,:/TZ+ -]*")
_LIKE_VOLUME = re.compile(
    r"volume|(?<![^\W_])vol(?![^\W\d_])|(?-i:[Vv]ol(?=[A-Z])|(?<=[a-z])Vol(?![a-z]))|qty|quantity"
    r"|(?<![^\W_])shares(?![^\W_])|거래량|체결량|수량",
    re.IGNORECASE,
)
_NOT_TRADED = re.compile("outstanding|float|issued", re.IGNORECASE)
"""Shares that there are, not those that changed hands."""
_COUNT = r"\d{1,7}(\.0)?"
"""Too short for a date in digits, and for seconds since 1970 after April."""
_TARGET_OF = {name: target for target, names in _KNOWN.items() for name in names.split()}


def plain(header: str) -> str:
    """A header without case, blanks, punctuation and a unit in brackets: ``Open Price (KRW)``."""
    return re.sub(r"[\W_]+", "", re.sub(r"[(\[<][^)\]>]*[)\]>]$", "", header)).casefold()


def guess(
    headers: Sequence[str],
    overrides: Mapping[str, str] | None = None,
    *,
    where: str = "the source",
    needs_volume: bool = True,
    first_value: object = None,
) -> dict[str, str]:
    """The header of each target: ``{"timestamp": "Date", "open": "시가", ...}``.

    Instead of ``timestamp`` there may be ``date``, with or without ``time``. The columns that name
    the series (``symbol``, ``exchange``, ``timeframe``) are included if the source has them.

    :param overrides: headers by target, which come before every guess; an empty one says that no
        column is meant.
    :param first_value: the first one of the first column, by which a column without a name is the
        index of a frame: moments, or only a count.
    :raises InvalidData: a column is missing, or two could be meant.
    """
    overrides = overrides or {}
    found = _overridden(headers, overrides, where)
    taken = set(found.values())
    # In the order of the source, so that an error names the first of two that could be meant.
    for header in headers:
        target = target_of(header)
        if target is None or overrides.get(target) == "":
            continue
        if headers.count(header) > 1 and target not in overrides:
            raise InvalidData(
                f"{where}: there are {headers.count(header)} columns {header!r}.",
                remedy="Give each a name of its own.",
            )
        if header in taken:
            continue
        if target in found:
            if target in overrides:
                continue
            raise InvalidData(
                f"{where}: columns {found[target]!r} and {header!r} could both be {target}.",
                remedy=f"Say which one is: {column_option(target, 'HEADER')}.",
            )
        found[target] = header
        taken.add(header)
    if not {"timestamp", "date", "time"} & found.keys():
        found |= _index(headers, first_value)
    _take_whole_moments(found)
    _refuse_missing(found, headers, where, needs_volume)
    return found


def target_of(header: str) -> str | None:
    """Return what a column of this header holds; None if that cannot be guessed."""
    bare = header.strip("\ufeff ").casefold()
    names = (plain(header), bare, bare.strip("<>"))
    return next((found for name in names if (found := _TARGET_OF.get(name))), None)


def _index(headers: Sequence[str], first_value: object) -> dict[str, str]:
    """Return the column of moments that a frame had as its index, which pandas writes unnamed."""
    for header in headers[:1] if _PARQUET_INDEX not in headers else (_PARQUET_INDEX,):
        is_unnamed = _UNNAMED.fullmatch(header) is not None
        if is_unnamed and re.fullmatch(_COUNT, str(first_value)) is None:
            return {"timestamp": header}
    return {}


def _overridden(headers: Sequence[str], overrides: Mapping[str, str], where: str) -> dict[str, str]:
    for target, header in overrides.items():
        if target not in _KNOWN:
            raise InvalidData(f"must be one of {', '.join(_KNOWN)}", field="columns", value=target)
        if header and header not in headers:
            raise InvalidData(
                f"{where} has no column {header!r}; it has {', '.join(map(str, headers))}"
            )
    return {target: header for target, header in overrides.items() if header}


def _take_whole_moments(found: dict[str, str]) -> None:
    # A timestamp is the whole moment, so a date and a time beside it say nothing more.
    if "timestamp" in found:
        found.pop("date", None)
        found.pop("time", None)
    elif "date" not in found and "time" in found:
        found["timestamp"] = found.pop("time")


def _refuse_missing(
    found: Mapping[str, str], headers: Sequence[str], where: str, needs_volume: bool
) -> None:
    missing = [name for name in FIELDS if name not in found]
    if not needs_volume and "volume" in missing:
        missing.remove("volume")
    if "timestamp" not in found and "date" not in found:
        missing.insert(0, "timestamp")
    if not missing:
        return
    among = ", ".join(map(str, headers))
    among = among if len(among) <= _SHOWN else f"{among[:_SHOWN]} ..."
    remedy = f"Name it: {column_option(missing[0], 'HEADER')}."
    if all(_VALUE.fullmatch(header) for header in headers):
        remedy = f"If the first line holds values, say {numbered_columns()}."
    refused = LayoutMissing(
        f"{where}: no column for {', '.join(missing)} among {among}.", remedy=remedy
    )
    if missing == ["volume"]:
        _propose_volume(refused, [header for header in headers if header not in found.values()])
    raise refused


def _propose_volume(refused: LayoutMissing, free: Sequence[str]) -> None:
    """Say what helps where there is no column of volumes.

    :param free: the headers of columns that are nothing else.
    """
    named = [header for header in free if _is_like_volume(header)]
    if named:
        said = " or ".join(column_option("volume", header) for header in named)
        refused.remedy = f"Name it: {said}."
        refused.proposed = {"columns": {"volume": named[0]}}
    else:
        zero = f"{option('volume', 'zero-if-missing')} takes all volumes for zero."
        refused.remedy = f"{refused.remedy} {zero}"
        refused.proposed = {"needs_volume": False}


def _is_like_volume(header: str) -> bool:
    return bool(_LIKE_VOLUME.search(header)) and not _NOT_TRADED.search(header)
