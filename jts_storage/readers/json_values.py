"""Values of JSON with their numbers as they are written, and the text of such values."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class TwiceNamed(dict[str, Any]):
    """An object with a name that comes twice, of whose values Python keeps the last.

    :ivar name: the first one.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.name = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else TwiceNamed(pairs)


DECODER: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, object_pairs_hook=_object)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)


def written(value: object) -> str:
    """
    :raises RecursionError: it is nested very deeply.
    """
    return value if isinstance(value, Number) else _ENCODER.encode(value)
