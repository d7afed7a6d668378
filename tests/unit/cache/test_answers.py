"""What is kept, for how long, and who reads the stores for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from jts_storage.cache import values
from jts_storage.cache.answers import Answers
from jts_storage.cache.held import Held, HeldAnswers
from jts_storage.cache.local import LocalCoherence
from jts_storage.cache.writers import Writers
from jts_storage.domain.cache_statistics import Counters
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError
from jts_storage.redis.coherence import Lasting, Look
from jts_storage.settings.redis import RedisConfig
from jts_storage.testing.factories import make_candles


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A number that is read and written."""

    def __init__(self, max_stale: float = 30.0) -> None:
        self.number = self.asked = 0
        self.clock, self.counters = Clock(), Counters()
        self.coherence = LocalCoherence()
        self.answers = Answers(self.coherence, self.counters, max_stale, clock=self.clock)
        self.writers = Writers(self.coherence, self.counters, RedisConfig())
        self.slowly = False

    async def read(self) -> int:
        return await self.answers.get(("s",), "n", self._ask, values.COUNT)

    async def _ask(self) -> int:
        self.asked += 1
        found = self.number
        if self.slowly:
            await asyncio.sleep(0.01)
        return found


async def test_an_answer_is_kept_until_it_is_written() -> None:
    store = Store()
    assert [await store.read() for _ in range(3)] == [0, 0, 0]
    assert store.asked == 1
    async with store.writers.writing(["s"], may_refuse=True):
        store.number = 1
        assert await store.read() == 1
        assert await store.read() == 1
        assert store.asked == 3, "nothing is kept while somebody writes"
    assert [await store.read() for _ in range(3)] == [1, 1, 1]
    assert store.asked == 4
    assert store.counters.written_meanwhile == 2


async def test_an_answer_that_was_written_over_while_read_is_not_kept() -> None:
    store = Store()
    store.slowly = True
    reading = asyncio.create_task(store.read())
    for _ in range(5):
        await asyncio.sleep(0)
    assert store.asked == 1
    async with store.writers.writing(["s"], may_refuse=True):
        store.number = 1
    # Not the reading that began before the write.
    assert await store.read() == 1
    assert await reading == 0
    assert await store.read() == 1
    await store.answers.settle(5)
    assert store.counters.stale_refused == 1


async def test_an_answer_is_kept_no_longer_than_it_may_be_stale() -> None:
    store = Store(max_stale=30)
    await store.read()
    store.number = 1  # nobody has said so
    store.clock.now = 26
    assert await store.read() == 0
    store.clock.now = 30
    assert await store.read() == 1


async def test_it_lasts_from_when_the_reading_began(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(max_stale=30)
    lasted: list[Lasting] = []
    fill = store.coherence.fill

    async def noting(
        scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool:
        lasted.append(lasts)
        return await fill(scopes, name, look, value, lasts)

    async def slow() -> int:
        store.clock.now += 20
        return 0

    monkeypatch.setattr(store.coherence, "fill", noting)
    await store.answers.get(("s",), "n", slow, values.COUNT)
    await store.answers.settle(5)
    assert 7 <= lasted[0].left <= 10
    assert lasted[0].left + 20 == pytest.approx(lasted[0].whole)
    store.clock.now += 11
    assert await store.read() == 0
    assert store.asked == 1, "it was kept for longer"


async def test_that_there_is_nothing_is_not_believed_for_long() -> None:
    store = Store(max_stale=3_600)
    key = SeriesKey("AAPL", Timeframe.M1)
    found = CandleSeries.empty(key)

    async def ask() -> CandleSeries:
        return found

    async def read() -> CandleSeries:
        return await store.answers.get(("s",), "series", ask, values.SeriesCodec(key))

    assert len(await read()) == 0
    found = make_candles(key, 3)  # nobody has said so
    store.clock.now = 60
    assert len(await read()) == 3
    found = CandleSeries.empty(key)
    store.clock.now = 3_000
    assert len(await read()) == 3, "of what there is, `max_stale` says how long"


async def test_one_reads_for_all_and_whoever_leaves_takes_nobody_along() -> None:
    store = Store()
    store.slowly = True
    readers = [asyncio.create_task(store.read()) for _ in range(50)]
    await asyncio.sleep(0)
    readers[0].cancel()
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [0] * 49
    assert store.asked == 1


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    store = Store()

    async def fail() -> int:
        store.asked += 1
        await asyncio.sleep(0)
        raise StorageError("no")

    asking = (store.answers.get(("s",), "n", fail, values.COUNT) for _ in range(5))
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(each, StorageError) for each in found)
    assert store.asked == 1
    assert await store.read() == 0


async def test_a_writer_that_fails_takes_what_is_kept_along() -> None:
    store = Store()
    await store.read()
    with pytest.raises(StorageError, match="half"):
        async with store.writers.writing(["s"], may_refuse=True):
            store.number = 1
            raise StorageError("half")
    assert await store.read() == 1


def test_what_was_asked_for_longest_ago_gives_way() -> None:
    clock = Clock()
    held = HeldAnswers(3_000, clock=clock)
    for name in "abc":
        held.put(name, Held(b"t", name, 500, until=10))
    assert held.get("a") is not None
    held.put("d", Held(b"t", "d", 500, until=10))
    assert held.get("b") is None
    assert {name for name in "acd" if held.get(name)} == set("acd")
    held.put("e", Held(b"t", "e", 4_000, until=10))
    assert held.get("e") is None and held.bytes == 2_700
    clock.now = 10
    assert held.get("a") is None


async def test_a_read_under_way_when_the_storage_closes_is_told_so() -> None:
    """Nobody has cancelled it."""
    store, begun = Store(), asyncio.Event()

    async def ask() -> int:
        begun.set()
        await asyncio.sleep(60)
        return 1

    async def read() -> int:
        return await store.answers.get(("s",), "n", ask, values.COUNT)

    reading, leaving = asyncio.create_task(read()), asyncio.create_task(read())
    await begun.wait()
    leaving.cancel()
    await store.answers.close()
    with pytest.raises(StorageError, match="not open"):
        await reading
    with pytest.raises(asyncio.CancelledError):
        await leaving


class Sharing:
    """A Redis whose values are given, and whose answers to what is stored wait."""

    def __init__(self) -> None:
        self.now, self.kept = 10**6, b""
        self.filled: list[bytes] = []
        self.goes_on = asyncio.Event()

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look:
        value = self.kept or None
        return Look(b"t" * 16, None if known else value, 3_600.0, at=self.now)

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool:
        await self.goes_on.wait()
        self.filled.append(value)
        return True


def answers_over(sharing: Sharing, max_stale: float = 30.0) -> tuple[Answers, Counters, Clock]:
    counters, clock = Counters(), Clock()
    return Answers(sharing, counters, max_stale, clock=clock), counters, clock


async def _seven() -> int:
    return 7


@pytest.mark.parametrize(("age", "given"), [(0.0, 1), (4.999, 1), (5.0, 7), (-0.001, 7)])
async def test_a_value_is_no_older_than_its_reader_allows(age: float, given: int) -> None:
    """Whoever stored it may allow more; and none is of the future of a clock that was set back."""
    sharing = Sharing()
    answers, counters, clock = answers_over(sharing, max_stale=5.0)
    at = sharing.now - round(1_000 * age)
    sharing.kept = values.packed(b"t" * 16, at, values.COUNT.encode(1))
    sharing.goes_on.set()
    assert await answers.get(("s",), "n", _seven, values.COUNT) == given
    assert (counters.shared_hits, counters.unusable) == ((1, 0) if given == 1 else (0, 1))
    await answers.settle(5)
    clock.now = 5.0 - max(0.0, age)
    held = answers.held.get("s\0n")
    assert given == 7 or held is None, "it is held for longer than what was left of it"


async def test_nobody_waits_until_redis_has_an_answer() -> None:
    sharing = Sharing()
    answers, counters, _ = answers_over(sharing)
    async with asyncio.timeout(20):
        for _ in range(2):
            assert await answers.get(("s",), "n", _seven, values.COUNT) == 7
    assert (counters.misses, counters.hits, sharing.filled) == (1, 1, [])
    sharing.goes_on.set()
    await answers.settle(5)
    assert len(sharing.filled) == 1


async def test_so_many_answers_are_on_their_way_to_redis_at_once_and_no_more() -> None:
    sharing = Sharing()
    answers, _, _ = answers_over(sharing)
    asked = (answers.get(("s",), f"n{number}", _seven, values.COUNT) for number in range(40))
    reading = [asyncio.create_task(each) for each in asked]
    for _ in range(50):
        await asyncio.sleep(0)
    assert sum(each.done() for each in reading) == 16
    sharing.goes_on.set()
    assert await asyncio.gather(*reading) == [7] * 40
    await answers.settle(5)
    assert len(sharing.filled) == 40


async def test_closing_ends_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jts_storage.cache.answers._CLOSING", 0.01)
    sharing = Sharing()
    answers, _, _ = answers_over(sharing)
    before = asyncio.all_tasks()
    assert await answers.get(("s",), "n", _seven, values.COUNT) == 7
    await answers.close()
    assert asyncio.all_tasks() == before
    assert (sharing.filled, len(answers.held)) == ([], 0)


class Telling:
    """Generations whose calls wait until they are let through."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.goes_on = asyncio.Event()

    async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None:
        self.calls.append("begin")
        await self.goes_on.wait()

    async def end(self, scopes: Sequence[str], writer: str, landing: float = 0.0) -> None:
        self.calls.append("end")
        await self.goes_on.wait()
        self.calls.append("ended")


async def test_a_writer_that_is_cancelled_at_its_end_ends() -> None:
    """What it wrote is decided by then."""
    telling = Telling()
    writers = Writers(telling, Counters(), RedisConfig())

    async def write() -> None:
        async with writers.writing(["s"], may_refuse=True):
            telling.goes_on.clear()

    telling.goes_on.set()
    task = asyncio.create_task(write())
    while "end" not in telling.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    telling.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert telling.calls == ["begin", "end", "ended"]


async def test_a_writer_that_is_cancelled_before_it_writes_leaves_no_mark() -> None:
    telling = Telling()
    writers = Writers(telling, Counters(), RedisConfig())

    async def write() -> None:
        async with writers.writing(["s"], may_refuse=True):
            raise AssertionError

    task = asyncio.create_task(write())
    while not telling.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    telling.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert telling.calls == ["begin", "end", "ended"]


async def test_a_mark_that_is_being_renewed_is_there_before_it_is_taken_away() -> None:
    """One that came after the end would keep readers away for a lease."""

    class Renewing(Telling):
        async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None:
            is_first = not self.calls
            self.calls.append("begin")
            if is_first:
                return
            try:
                self.goes_on.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                for _ in range(5):  # what was sent is on its way
                    await asyncio.sleep(0)
                self.calls.append("begun")
                raise

    telling = Renewing()
    writers = Writers(telling, Counters(), RedisConfig(lease=1.0))
    async with asyncio.timeout(20), writers.writing(["s"], may_refuse=True):
        await telling.goes_on.wait()
    assert telling.calls == ["begin", "begin", "begun", "end", "ended"]


class Away:
    """A Redis that is away, or a writer at work: nothing is known of generations."""

    def __init__(self, look: Look | None) -> None:
        self._look = look

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look | None:
        return self._look

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool | None:
        raise AssertionError("nothing is known that could be kept")


WRITTEN = Look(None)


@pytest.mark.parametrize("look", [None, WRITTEN], ids=["away", "written meanwhile"])
async def test_a_thousand_readers_are_few_reads_where_nothing_can_be_kept(
    look: Look | None,
) -> None:
    store = Store()
    store.answers, store.slowly = Answers(Away(look), store.counters, 30.0), True
    first = [asyncio.create_task(store.read()) for _ in range(500)]
    await asyncio.sleep(0.001)
    assert store.asked == 1
    store.number = 1
    late = [asyncio.create_task(store.read()) for _ in range(500)]
    assert await asyncio.gather(*first) == [0] * 500
    assert await asyncio.gather(*late) == [1] * 500, "not of a reading that began before the write"
    assert store.asked == 2
    assert await store.read() == 1
    assert store.asked == 3


async def test_a_reading_that_fails_fails_for_those_who_waited_for_it_alone() -> None:
    answers, fails = Answers(Away(None), Counters(), 30.0), True

    async def ask() -> int:
        await asyncio.sleep(0.01)
        if fails:
            raise StorageError("The disk is full.")
        return 7

    def read() -> asyncio.Task[int]:
        return asyncio.create_task(answers.get(("s",), "n", ask, values.COUNT))

    first = [read() for _ in range(2)]
    await asyncio.sleep(0.001)
    second = [read() for _ in range(2)]
    for each in first:
        with pytest.raises(StorageError, match="full"):
            await each
    fails = False
    assert await asyncio.gather(*second) == [7, 7]
    closing = read()
    await asyncio.sleep(0.001)
    await answers.close()
    with pytest.raises(StorageError, match="not open"):
        await closing
    assert await read() == 7
