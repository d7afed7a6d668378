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
    "integration/cluster/test_contracts_on_a_cluster.py",
    "integration/unit_of_work/test_why_table.py",
    "integration/test_reading.py",
    "remote/test_remote_contracts.py",
    "remote/test_remote_contracts_on_disk.py",
    "remote/test_commands_beside_a_service.py",
    "remote/test_kills.py",
    "integration/unit_of_work/test_late_commits_in_history.py",
    "integration/local_servers/test_local_mongod.py",
    "integration/history/test_streams_of_the_past.py",
    "integration/history/test_history_on_disk.py",
    "migration/test_chains.py",
    "integration/cli/test_history.py",
    "integration/unit_of_work/test_declared_models.py",
    "integration/test_first_use.py",
    "migration/test_chain_failures.py",
    "docs/test_site.py",
    "integration/plugin/test_plugin.py",
    "integration/unit_of_work/test_crash.py",
    "integration/unit_of_work/test_health.py",
    "unit/usecases/test_import_block_sizes.py",
    "histories/test_planted.py",
    "remote/test_remote_histories.py",
    "integration/unit_of_work/test_recovery.py",
    "integration/history/test_purges_on_disk.py",
    "integration/clickhouse_repositories/test_exactly_once.py",
    "integration/clickhouse_repositories/test_candle_cache.py",
    "integration/clickhouse_repositories/test_answers_after_appends.py",
    "integration/unit_of_work/test_decisions.py",
    "integration/clickhouse_repositories/test_held_by_the_log.py",
    "docs/test_docs_code.py",
    "integration/clickhouse_repositories/test_held_answers.py",
    "histories/test_histories.py",
    "integration/cli/test_show.py",
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


_Parameters: Final = type(pytest.param())


def _values(case: Any) -> tuple[Any, ...]:
    return case if type(case) is tuple else (case,)
