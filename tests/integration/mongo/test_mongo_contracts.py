"""The repositories keep their contracts on a real mongod, within a transaction too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.testing.contracts import (
    BacktestRepositoryContract,
    FormulaRepositoryContract,
    StrategyRepositoryContract,
)


class _Autocommit:
    @pytest.fixture
    def session(self) -> None:
        return None


class _Transaction:
    @pytest.fixture
    async def session(self, manager: MongoDBManager) -> AsyncIterator[AsyncClientSession]:
        async with manager.client.start_session() as session:
            await session.start_transaction()
            yield session


class _Formulas(FormulaRepositoryContract):
    @pytest.fixture
    def formula_repository(
        self, manager: MongoDBManager, session: AsyncClientSession | None
    ) -> MongoDBFormulaRepository:
        return MongoDBFormulaRepository(manager, session)

    @pytest.fixture
    def strategy_repository(
        self, manager: MongoDBManager, session: AsyncClientSession | None
    ) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(manager, session)


class _Strategies(StrategyRepositoryContract):
    @pytest.fixture
    def strategy_repository(
        self, manager: MongoDBManager, session: AsyncClientSession | None
    ) -> MongoDBStrategyRepository:
        return MongoDBStrategyRepository(manager, session)


class _Backtests(BacktestRepositoryContract):
    @pytest.fixture
    def backtest_repository(
        self, manager: MongoDBManager, session: AsyncClientSession | None
    ) -> MongoDBBacktestResultRepository:
        return MongoDBBacktestResultRepository(manager, session)


class TestFormulas(_Autocommit, _Formulas):
    pass


class TestStrategies(_Autocommit, _Strategies):
    pass


class TestBacktests(_Autocommit, _Backtests):
    pass


class TestFormulasInATransaction(_Transaction, _Formulas):
    async def test_of_concurrent_updates_one_wins(self) -> None:  # type: ignore[override]
        pytest.skip("a session serves one operation at a time")


class TestStrategiesInATransaction(_Transaction, _Strategies):
    pass


class TestBacktestsInATransaction(_Transaction, _Backtests):
    pass
