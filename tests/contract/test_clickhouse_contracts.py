"""ClickHouse keeps the contracts: the embedded engine, and a server over TCP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.contracts import CandleRepositoryContract, SymbolRepositoryContract
from jts_storage.unit_of_work.staged import StagedCandles


@pytest.fixture(scope="module", params=["embedded", "tcp"])
def manager(
    request: pytest.FixtureRequest, engine_used: Callable[[str], None]
) -> Iterator[ClickHouseManager]:
    engine_used("chDB" if request.param == "embedded" else "ClickHouse endpoint over chDB")
    if request.param == "embedded":
        opened = ClickHouseManager(embedded_path=":memory:", database="jts_test")
        tables.build().metadata.create_all(opened.engine)
        yield opened
        opened.close()
        return
    with ClickHouseServer() as server:
        opened = ClickHouseManager(host="127.0.0.1", port=server.port, database="default")
        tables.build().metadata.create_all(opened.engine)
        yield opened
        opened.close()


@pytest.fixture
def clean(manager: ClickHouseManager) -> ClickHouseManager:
    for table in ("candles", "symbols"):
        manager.execute(f"TRUNCATE TABLE {table}")
    return manager


class CandlesOfClickHouse(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, clean: ClickHouseManager) -> ClickHouseCandleRepository:
        return ClickHouseCandleRepository(clean)


@pytest.mark.parametrize("manager", ["embedded"], indirect=True)
class TestCandles(CandlesOfClickHouse):
    """Every test of the contract."""


@pytest.mark.parametrize("manager", ["tcp"], indirect=True)
class TestCandlesOverTCP(CandlesOfClickHouse):
    """By day what another way there and back may change: values, forms, streams and errors."""

    BY_DAY = frozenset(
        {
            "test_a_batch_with_one_bad_row_is_refused_as_a_whole",
            "test_a_market_is_read_as_one_panel",
            "test_a_panel_is_saved_in_every_form",
            "test_a_panel_is_what_its_series_are",
            "test_a_stream_tiles_the_range",
            "test_any_sequence_agrees_with_a_dict",
            "test_coverage_by_day_counts_local_days",
            "test_delete_is_exact_counts_and_lasts",
            "test_detail_tells_new_changed_and_unchanged",
            "test_every_form_of_candles_is_taken",
            "test_extreme_values_come_back_exactly",
            "test_get_ranges_answers_many_keys_too",
            "test_hostile_symbols_are_plain_text",
            "test_keys_are_listed_in_pages",
            "test_leaving_a_stream_early_is_harmless",
            "test_nothing_stored_is_empty_and_no_error",
            "test_volumes_too_large_for_a_sum_are_told",
            "test_what_was_saved_is_read",
        }
    )


# What is staged lies over what is read: by day over the repositories in memory, see there.
@pytest.mark.slow
class TestStagedCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, clean: ClickHouseManager) -> StagedCandles:
        return StagedCandles(ClickHouseCandleRepository(clean))


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, clean: ClickHouseManager) -> ClickHouseSymbolRepository:
        return ClickHouseSymbolRepository(clean)
