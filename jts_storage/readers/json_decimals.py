"""Numbers of JSON with more decimals than nearly all have, such as those of computed floats."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

import pyarrow as pa

USUAL: Final = pa.decimal128(38, 10)
_WIDE: Final = pa.decimal256(76, 38)
_TOO_LARGE: Final = re.compile(rb':\s*"?[-+]?(?:\d{30}|[\d.]+[eE]\+?\d{2,}["\s,}])')
"""Arrow would wrap some of such numbers around, without a word."""


def has_many(error: Exception, lines: bytes) -> bool:
    """Whether lines were refused for decimals that the wide kind may hold."""
    return "requires scale" in str(error) and _TOO_LARGE.search(lines) is None


def widened(schema: Any, names: Collection[str]) -> Any:
    """The schema with room for many decimals in these columns; reading them takes longer."""
    is_wide = {its.name for its in schema if its.type == USUAL} & set(names)
    return pa.schema([(its.name, _WIDE if its.name in is_wide else its.type) for its in schema])
