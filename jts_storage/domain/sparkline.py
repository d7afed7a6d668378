"""A series in one line of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def sparkline(values: Sequence[Any]) -> str:
    """A bar for each number; where there are more than fit, for the last of each stretch."""
    ends = [len(values) * (at + 1) // _WIDTH - 1 for at in range(_WIDTH)]
    shown = [values[end] for end in ends] if len(values) > _WIDTH else list(values)
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = high - low or 1
    return "".join(_BARS[int((value - low) * (len(_BARS) - 1) / span)] for value in shown)
