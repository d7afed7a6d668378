"""Which series belong to what is asked."""

from __future__ import annotations

import pytest

from jts_storage import SeriesKey, Timeframe
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP
from jts_storage.domain.panel_query import PanelQuery

M1 = Timeframe.M1


def test_a_series_among_thousands_is_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[SeriesKey]:
        return [SeriesKey(f"S{number}", M1) for number in range(1_000)]

    asked = PanelQuery.of(M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, keys(), None)
    compared, is_equal = list[object](), SeriesKey.__eq__

    def counted(self: SeriesKey, other: object) -> bool:
        compared.append(other)
        return is_equal(self, other)

    monkeypatch.setattr(SeriesKey, "__eq__", counted)
    assert all(map(asked.is_of, keys()))
    assert not asked.is_of(SeriesKey("T", M1))
    assert len(compared) < 2_000


def test_a_series_is_asked_for_by_all_that_is_said_of_it() -> None:
    key = SeriesKey("A", M1, "KRX")

    def asked(keys: list[SeriesKey] | None, exchange: str | None = None) -> PanelQuery:
        return PanelQuery.of(M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, keys, exchange)

    assert asked(None).is_of(key)
    assert asked([key], "KRX").is_of(key)
    assert not asked([]).is_of(key)
    assert not asked([SeriesKey("A", M1)]).is_of(key)
    assert not asked([key], "NYSE").is_of(key)
    assert not asked(None).is_of(SeriesKey("A", Timeframe.D1, "KRX"))
