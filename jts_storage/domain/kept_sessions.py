"""Sessions of calendars kept in files, since making them may take seconds.

Nothing is kept unless `keep_in` was called. A file counts for a month, and only with the releases
it was made with; a calendar goes on for a year from the day on which it was made.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import time
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Columns: TypeAlias = tuple[npt.NDArray[np.int64], ...]

_FORMAT: Final = 1
_COUNT: Final = 5
_COUNTS_FOR_SECONDS: Final = 30 * 86_400
_MADE_OF: Final = ("exchange_calendars", "pandas", "korean_lunar_calendar", "tzdata")

_folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Keep sessions in this folder from now on; None keeps none."""
    global _folder
    _folder = folder


def read(name: str, start: str) -> Columns | None:
    """Return what was kept of a calendar from a day on; None if that is nothing that counts."""
    file = _file(name, start)
    if file is None:
        return None
    try:
        age = time() - file.stat().st_mtime
        with file.open("rb") as opened:
            rows = np.load(opened, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not 0 <= age < _COUNTS_FOR_SECONDS or rows.dtype != np.int64 or rows.ndim != 2:
        return None
    return tuple(rows) if len(rows) == _COUNT and rows.size else None


def write(name: str, start: str, columns: Columns) -> None:
    """Keep the sessions of a calendar from a day on; nothing if they cannot be written."""
    file = _file(name, start)
    if file is None:
        return
    half = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as opened:
            np.save(opened, np.stack(columns), allow_pickle=False)
        half.replace(file)  # whole, or not at all


def _file(name: str, start: str) -> Path | None:
    if _folder is None or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return None
    releases = "-".join(map(_release, _MADE_OF))
    return _folder / f"{name}-{start}-{_FORMAT}-{releases}.npy"


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
