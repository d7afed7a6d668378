"""Memory of large results: aligned, used again, and never while somebody can see it."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse import memory
from jts_storage.clickhouse.memory import Array, give_back, new_arrays
from jts_storage.domain.columns import owner_of

ROWS = 300_001
LONG, BYTE, TEXT = np.dtype(np.int64), np.dtype(np.uint8), np.dtype(object)


@pytest.fixture(autouse=True)
def nothing_idle() -> Iterator[None]:
    memory._idle.clear()
    yield
    memory._idle.clear()


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def test_where_there_is_no_memory_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError, match="300,001 rows"):
        new_arrays([LONG, LONG], ROWS)


@pytest.mark.parametrize("rows", [0, 1, 1_000, ROWS, 2_000_000])
@pytest.mark.parametrize("dtypes", [[LONG], [BYTE, LONG, BYTE, LONG], [TEXT, LONG], []])
def test_arrays_are_as_asked_for(rows: int, dtypes: list[np.dtype[Any]]) -> None:
    arrays = new_arrays(dtypes, rows)
    assert [(array.dtype, len(array)) for array in arrays] == [(d, rows) for d in dtypes]
    assert all(array.flags.aligned and array.flags.writeable for array in arrays)
    for number, array in enumerate(arrays):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_memory_serves_again_when_the_last_array_is_gone() -> None:
    arrays = new_arrays([LONG, BYTE, LONG], ROWS)
    first = address(arrays[0])
    kept = arrays[2][10:20].view(np.uint8)
    del arrays
    other = new_arrays([LONG, BYTE, LONG], ROWS)
    assert address(other[0]) != first, "a slice of the first is still held"
    del kept
    again = new_arrays([LONG, LONG], ROWS)
    assert address(again[0]) == first


def test_pages_that_nobody_needs_are_given_back() -> None:
    """What is given back reads as zeros afterwards, since the system has to clear it."""
    arrays = new_arrays([LONG, BYTE, LONG], ROWS)
    for array in arrays:
        array[:] = 7
    owner = owner_of(arrays[0])
    assert memory.bytes_in_use(owner) == owner.nbytes
    assert give_back(arrays, 100_001)
    for array in arrays:
        assert (array[:100_001] == 7).all()
        page = mmap.PAGESIZE // array.itemsize
        assert not array[100_001 + page : -page].any()
    assert memory.bytes_in_use(owner) == 100_001 * 17
    del arrays, array, owner
    again = new_arrays([LONG, BYTE, LONG], ROWS)
    assert memory.bytes_in_use(owner_of(again[0])) > 100_001 * 17


def test_memory_of_others_is_left_alone() -> None:
    small = new_arrays([LONG, BYTE], 1_000)
    assert not give_back(small, 10)
    assert not give_back([], 0)


@pytest.mark.parametrize("columns", [4, 20])
def test_what_is_too_small_or_far_too_large_is_not_used(columns: int) -> None:
    del new_arrays([LONG] * columns, ROWS)[:]
    (idle,) = memory._idle
    arrays = new_arrays([LONG] * 9, ROWS)
    arrays[8][-1] = 1
    assert list(memory._idle) == [idle]


def test_little_memory_is_kept() -> None:
    held = [new_arrays([LONG] * 20, ROWS) for _ in range(5)]
    del held
    assert len(memory._idle) == 2
    assert sum(map(len, memory._idle)) <= 128 << 20
    del new_arrays([LONG] * 40, ROWS)[:]
    assert sum(map(len, memory._idle)) <= 128 << 20


def test_threads_never_share_memory() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(50):
            arrays = new_arrays([LONG, LONG], ROWS)
            arrays[0][:] = number
            arrays[1][:] = number
            if not ((arrays[0] == number).all() and (arrays[1] == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
