"""What Redis is still to be told, by a process that cannot reach it."""

from __future__ import annotations

from jts_storage.cache.sharing import EVERYTHING, RedisSharing
from jts_storage.domain.cache_statistics import Counters
from jts_storage.settings.redis import RedisConfig
from tests.integration.redis.cached import FixedNotes


async def test_too_many_names_are_all_of_them_the_former_ones_too() -> None:
    sharing, notes = RedisSharing(RedisConfig("redis://127.0.0.1:1"), Counters()), FixedNotes()
    sharing.belongs_to(notes)
    try:
        await sharing.tell_later([f"candles A{number}/1m" for number in range(150)])
        assert sharing.untold == 150
        await sharing.tell_later([f"candles B{number}/1m" for number in range(100)])
        assert set(EVERYTHING) == set(sharing._untold) == set(notes.kept[1])
    finally:
        await sharing.close()
