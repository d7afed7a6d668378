"""Timeframes as sources spell them: ``1m``, ``1min``, ``M1``, ``D``, ``60``, ``일봉``."""

from __future__ import annotations

import re

from jts_storage.domain.enums import Timeframe

_MINUTES = "{n}m {n}min {n}mins {n}minute {n}minutes m{n} min{n} {n}t pt{n}m {n}분 {n}분봉"
_HOURS = "{n}h h{n} {n}hr {n}hrs {n}hour {n}hours pt{n}h {n}시간 {n}시간봉"
_SPELLED = {
    Timeframe.M1: _MINUTES.format(n=1) + " min minute 분봉 1",
    **{
        frame: f"{_MINUTES.format(n=n)} {n}"
        for n, frame in {
            3: Timeframe.M3,
            5: Timeframe.M5,
            10: Timeframe.M10,
            15: Timeframe.M15,
            30: Timeframe.M30,
        }.items()
    },
    Timeframe.H1: _MINUTES.format(n=60) + " 1h h1 h 1hr 1hour hour hourly pt1h 1시간 시간봉",
    Timeframe.H2: f"{_MINUTES.format(n=120)} {_HOURS.format(n=2)} 120",
    Timeframe.H4: f"{_MINUTES.format(n=240)} {_HOURS.format(n=4)} 240",
    Timeframe.D1: "1d d1 d 1day day daily p1d 1일 일 일봉 1440",
    Timeframe.W1: "1w w1 w 1wk wk 1week week weekly p1w p7d 1주 주 주봉 10080",
    Timeframe.MN1: "mn mn1 1mn 1mo mo 1mon 1month month monthly me 1me p1m 1개월 월 월봉 43200",
}
_MEANT = {name: frame for frame, names in _SPELLED.items() for name in names.split()}
_SIXTY = (Timeframe.M1, Timeframe.H1)
"""Sixty seconds or sixty minutes."""


def timeframes_meant(text: str) -> tuple[Timeframe, ...]:
    """The timeframes that a text may mean; none if it is no timeframe of ours.

    Case matters only between minutes and months: ``1m`` and ``1M``.
    """
    if text == "M":
        return (Timeframe.MN1,)
    if text in {frame.value for frame in Timeframe}:
        return (Timeframe(text),)
    if text == "60":
        return _SIXTY
    # Several months, such as 3M; in lower case they would be taken for minutes.
    if re.fullmatch(r"\d+M", text):
        return ()
    found = _MEANT.get(re.sub(r"[\s_-]", "", text).casefold())
    return () if found is None else (found,)
