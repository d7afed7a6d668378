"""Closing waits for the commits that have begun, and lets none begin."""

from __future__ import annotations

import asyncio
import time

import pytest

from jts_storage.errors import StorageError
from jts_storage.unit_of_work.under_way import Commits

PLENTY = 4.0


async def test_nothing_is_waited_for_where_nothing_is_under_way() -> None:
    commits = Commits()
    with commits.one():
        pass
    begun = time.monotonic()
    await commits.ended(PLENTY)
    assert time.monotonic() - begun < PLENTY / 2


async def test_none_begins_once_it_is_over() -> None:
    commits = Commits()
    await commits.ended(PLENTY)
    with pytest.raises(StorageError, match="closed before the commit"), commits.one():
        pytest.fail("It has begun.")


async def test_all_that_have_begun_are_waited_for_whatever_becomes_of_them() -> None:
    commits = Commits()
    go_on = [asyncio.Event() for _ in range(3)]
    ends: list[int] = []

    async def commit(number: int) -> None:
        with commits.one():
            await go_on[number].wait()
            ends.append(number)
            if number == 1:
                raise ZeroDivisionError

    with commits.one():
        pass  # one that is over before says nothing of the others
    tasks = [asyncio.create_task(commit(number)) for number in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(commits.ended(PLENTY))
    for number in range(3):
        await asyncio.sleep(0.01)
        assert not closing.done()
        go_on[number].set()
    await asyncio.wait_for(closing, PLENTY / 2)
    assert ends == [0, 1, 2]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], ZeroDivisionError)


async def test_one_that_does_not_end_is_waited_for_no_longer_than_said() -> None:
    commits = Commits()
    with commits.one():
        begun = time.monotonic()
        await asyncio.wait_for(commits.ended(0.05), PLENTY)
        assert time.monotonic() - begun >= 0.04
