"""How a run of the suite goes on several workers of pytest-xdist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

_TESTS: Final = Path(__file__).parent

LONGEST: Final = (
    "contract/test_storage_contracts.py",
    "contract/test_clickhouse_contracts.py",
    "integration/test_reading.py",
    "integration/unit_of_work/test_why_table.py",
    "docs/test_docs_code.py",
    "docs/test_site.py",
    "remote/test_shared_folder.py",
    "integration/history/test_history_on_disk.py",
    "migration/test_chains.py",
    "integration/mongo/test_mongo_contracts.py",
    "integration/unit_of_work/test_recovery.py",
    "integration/clickhouse_repositories/test_exactly_once.py",
    "integration/local_servers/test_local_mongod.py",
    "unit/usecases/test_import_block_sizes.py",
    "integration/unit_of_work/test_steps_of_commits.py",
    "integration/clickhouse_repositories/test_candle_cache.py",
    "integration/history/test_purges_on_disk.py",
    "contract/test_model_contracts.py",
    "integration/unit_of_work/test_declared_models.py",
    "integration/test_first_use.py",
    "integration/history/test_streams_of_the_past.py",
    "integration/backup/test_create_and_restore.py",
    "integration/unit_of_work/test_decisions.py",
    "remote/test_remote_contracts.py",
    "integration/services/test_stack_here.py",
    "integration/plugin/test_plugin.py",
    "unit/services/test_docker.py",
    "remote/test_remote_contracts_on_disk.py",
    "migration/test_chain_failures.py",
    "migration/test_drift.py",
    "histories/test_histories.py",
    "integration/cli/test_history.py",
    "remote/test_remote_histories.py",
    "unit/test_architecture.py",
    "integration/mongo/test_mongo_faults.py",
    "integration/cli/test_show.py",
    "integration/cli/test_as_of.py",
    "integration/unit_of_work/test_subscriptions.py",
    "integration/clickhouse_repositories/test_held_by_the_log.py",
    "remote/test_commands_beside_a_service.py",
    "contract/test_document_contracts.py",
    "migration/test_runners.py",
    "remote/test_kills.py",
    "integration/unit_of_work/test_health.py",
    "integration/unit_of_work/test_order_of_commits.py",
    "integration/unit_of_work/test_opening.py",
    "integration/redis/test_cached_storage.py",
    "integration/unit_of_work/test_crash.py",
)
"""The files that take longest, as a folder's `--durations=0` says: they come first.

A file stays on one worker. One of minutes that comes last, as it may in random order, is waited
for by all the others.
"""
_RANKS: Final = {_TESTS / name: number for number, name in enumerate(LONGEST)}


def rank(item: pytest.Item) -> int:
    """By what items are sorted, those of equal rank staying in their order."""
    return _RANKS.get(item.path, len(_RANKS))


def end_when_a_worker_is_lost(config: pytest.Config) -> None:
    """Let the run fail once a worker has died, unless its command line says otherwise.

    With `--dist loadfile`, xdist 3.8 gives a new worker the dead one's files from the first on,
    though all their tests have run: it has nothing to do, tells nothing, and gets nothing more.
    """
    if getattr(config.option, "maxworkerrestart", "") is None:
        config.option.maxworkerrestart = "0"


def some_by_day(cases: Iterable[Any], each: int = 4) -> list[Any]:
    """The cases of a test that has many alike: every so many by day, and by night all."""
    found = []
    for number, case in enumerate(cases):
        given = case if isinstance(case, _Parameters) else pytest.param(*_values(case))
        night = [pytest.mark.slow] if number % each else []
        found.append(pytest.param(*given.values, id=given.id, marks=night))
    return found


def every_value_by_day(*arguments: Sequence[Any]) -> list[Any]:
    """All combinations of the arguments' values: by day as few as have every value once or more.

    Neighbours differ in how they pair values, so that two arguments of one length are not always
    met by the same pairs.
    """
    longest = max(map(len, arguments))
    by_day = {
        tuple(
            (row + place * (row // len(values))) % len(values)
            for place, values in enumerate(arguments)
        )
        for row in range(longest)
    }
    found = []
    for indices in product(*(range(len(values)) for values in arguments)):
        night = [] if indices in by_day else [pytest.mark.slow]
        case = (values[index] for values, index in zip(arguments, indices, strict=True))
        found.append(pytest.param(*case, marks=night))
    return found


def is_left_to_the_night(item: pytest.Item) -> bool:
    """Whether the test's class names in ``BY_DAY`` those of its tests that run by day, but not it.

    So a contract that is kept by day over one way to a store is kept by night over every other.
    """
    function = getattr(item, "originalname", None)
    named: frozenset[str] | None = getattr(getattr(item, "cls", None), "BY_DAY", None)
    return named is not None and function not in named


def every_test_of(*contracts: type) -> frozenset[str]:
    """The names of all tests of these classes."""
    return frozenset(name for each in contracts for name in dir(each) if name.startswith("test_"))


_Parameters: Final = type(pytest.param())


def _values(case: Any) -> tuple[Any, ...]:
    return case if type(case) is tuple else (case,)
