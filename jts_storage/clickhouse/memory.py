"""Memory for large results, used again as soon as nobody holds an array in it.

The system clears every page of new memory when it is first touched, which takes as long as half of
the read that fills it; and what the allocator gives back after one read it must ask for anew in the
next.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SMALLEST, _LARGEST = 4 << 20, 64 << 20
_ALIGNED = 64  # bytes of a line of the processor's cache
_WASTE_SHIFT = 2  # memory that is used again is larger by a quarter at most
_shrunk: dict[int, int] = {}  # bytes that are in use, by the array that owns the memory
_idle: deque[mmap.mmap] = deque(maxlen=2)  # its methods are atomic: finalizers run anywhere


def new_arrays(dtypes: Sequence[np.dtype[Any]], rows: int) -> list[Array]:
    """An array of each type, with whatever is in its memory."""
    sizes = [-(-rows * dtype.itemsize // _ALIGNED) * _ALIGNED for dtype in dtypes]
    if not _SMALLEST <= sum(sizes) <= _LARGEST or any(dtype.hasobject for dtype in dtypes):
        return [np.empty(rows, dtype) for dtype in dtypes]
    try:
        memory = _taken(sum(sizes))
    except OSError as refused:
        raise MemoryError(f"No memory for a result of {rows:,} rows: {refused}") from refused
    whole = np.frombuffer(memory, np.uint8)  # the base of all the arrays, gone with the last
    weakref.finalize(whole, _retire, id(whole), memory).atexit = False
    starts = accumulate(sizes, initial=0)
    return [
        whole[start : start + rows * dtype.itemsize].view(dtype)
        for start, dtype in zip(starts, dtypes, strict=False)
    ]


def rows_that_fit(dtypes: Sequence[np.dtype[Any]]) -> int:
    """How many rows of these types memory that is used again has room for."""
    aligning = _ALIGNED * len(dtypes)
    return (_LARGEST - aligning) // sum(dtype.itemsize for dtype in dtypes)


def give_back(arrays: Sequence[Array], rows: int) -> bool:
    """Give the pages behind the first rows of each of these `new_arrays` back to the system.

    Returns False, and does nothing, if they are not in memory that is used again.
    """
    whole = arrays[0].base if arrays else None
    memory = _memory_of(whole) if isinstance(whole, np.ndarray) else None
    if whole is None or memory is None:
        return False
    begins = [_address(array) - _address(whole) for array in arrays]
    ends = [*begins[1:], len(memory)]
    for array, begin, end in zip(arrays, begins, ends, strict=True):
        first = -(-(begin + rows * array.itemsize) // mmap.PAGESIZE) * mmap.PAGESIZE
        size = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if size > 0:
            memory.madvise(mmap.MADV_DONTNEED, first, size)
    _shrunk[id(whole)] = sum(rows * array.itemsize for array in arrays)
    return True


def bytes_in_use(owner: Array) -> int:
    """Return the bytes of memory of an array that owns it, without those that were given back."""
    return _shrunk.get(id(owner), owner.nbytes)


def _retire(owner: int, memory: mmap.mmap) -> None:
    _shrunk.pop(owner, None)
    _idle.append(memory)


def _memory_of(whole: Array) -> mmap.mmap | None:
    base: Any = whole.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _taken(size: int) -> mmap.mmap:
    for _ in range(len(_idle)):
        try:
            memory = _idle.popleft()
        except IndexError:
            break
        if size <= len(memory) <= size + (size >> _WASTE_SHIFT):
            return memory
        _idle.append(memory)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
