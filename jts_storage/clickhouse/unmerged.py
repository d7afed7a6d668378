"""Rows as they lie, before the engine has merged them: quicker to read than with FINAL.

They are candles if no timestamp of a series is there twice; then only those that say that a candle
was deleted are left out. Where one is there twice, its rows compete, and FINAL has to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jts_storage.clickhouse.blocks import Array


def compete(stamps: Array, begins: Array | None = None) -> bool:
    """Return whether any timestamp of a series is there twice, or comes out of its order.

    :param begins: whether a row is the first of its series; None if all are of one.
    """
    is_no_later = stamps[1:] <= stamps[:-1]
    if begins is not None:
        is_no_later &= ~begins[1:]
    return bool(is_no_later.any())


def without_deleted(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out rows that say that a candle was deleted."""
    is_deleted = columns["deleted"].view(np.bool_)
    if not is_deleted.any():
        return columns
    return {name: column[~is_deleted] for name, column in columns.items()}
