"""The repositories keep their contracts on a real mongod, within a transaction too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.transaction import Transaction
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    FormulaRepositoryContract,
    StrategyRepositoryContract,
)
from tests.runs import every_test_of


class _Autocommit:
    @pytest.fixture
    def transaction(self) -> None:
        return None


class _Transaction:
    @pytest.fixture
    async def transaction(self, manager: MongoDBManager) -> AsyncIterator[Transaction]:
        async with manager.client.start_session() as session:
            await session.start_transaction()
            yield Transaction(session)


class _Formulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(
        self, manager: MongoDBManager, transaction: Transaction | None
    ) -> MongoDBFormulaRepository:
        return MongoDBFormulaRepository(manager, transaction)

    @pytest.fixture
    def strategy_repository(
        self, manager: MongoDBManager, transaction: Transaction | None
    ) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(manager, transaction)


class _Strategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(
        self, manager: MongoDBManager, transaction: Transaction | None
    ) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(manager, transaction)


class _Backtests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(
        self, manager: MongoDBManager, transaction: Transaction | None
    ) -> MongoDBBacktestResultRepository:
        return MongoDBBacktestResultRepository(manager, transaction)


class TestFormulas(_Autocommit, _Formulas):
    pass


class TestStrategies(_Autocommit, _Strategies):
    pass


class TestBacktests(_Autocommit, _Backtests):
    pass


class TestFormulasInATransaction(_Transaction, _Formulas):
    # What words are found is up to the query, which a transaction does not change.
    BY_DAY = every_test_of(_Formulas) - {
        "test_an_unknown_id_is_not_found",
        "test_hostile_strings_are_plain_text",
        "test_search_finds_words_and_their_beginnings",
        "test_search_finds_words_that_are_joined_to_others",
        "test_words_are_found_whatever_their_letters_fold_to",
    }


class TestStrategiesInATransaction(_Transaction, _Strategies):
    pass


class TestBacktestsInATransaction(_Transaction, _Backtests):
    pass
