"""What a cached repository is given wrongly, it refuses as the one behind it does."""

from __future__ import annotations

from typing import Any

import pytest

from jts_storage.cache.answers import Answers
from jts_storage.cache.local import LocalCoherence
from jts_storage.cache.repositories import CachedCandles
from jts_storage.domain.cache_statistics import Counters
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import make_candles


async def test_ranges_of_no_list_of_keys_are_refused_by_the_repository() -> None:
    class Repository:
        async def get_ranges(self, keys: Any, *_: object, **__: object) -> Any:
            assert keys is None
            raise InvalidData("are no keys", field="keys", value=keys)

    repository: Any = Repository()
    cached = CachedCandles(repository, Answers(LocalCoherence(), Counters(), 30.0))
    first = make_candles(1)[0].timestamp
    nothing: Any = None
    with pytest.raises(InvalidData, match="keys"):
        await cached.get_ranges(nothing, first, first)
