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
    weakref.finalize(whole, _idle.append, memory).atexit = False
    starts = accumulate(sizes, initial=0)
    return [
        whole[start : start + rows * dtype.itemsize].view(dtype)
        for start, dtype in zip(starts, dtypes, strict=False)
    ]


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
