"""The words of a text, and which of them a search finds.

Korean, Chinese and Japanese join words that other languages part: "골든크로스" is the golden cross.
So each of their letters may begin a word, and so may what follows one of them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_WORD: Final = re.compile(r"\w+")
_JOINING: Final = (
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u30ff\u31f0-\u31ff\uff66-\uffdc"  # Kana, and narrow Kana and Hangul
)


@cache
def _joins() -> re.Pattern[str]:
    """Made when it is first used: that takes 6 ms, which each process would wait as it starts."""
    return re.compile(f"[{_JOINING}]")


def words(text: str) -> set[str]:
    """The words of a text, with their case folded."""
    return set(_WORD.findall(text.casefold()))


def begins_anywhere(word: str) -> bool:
    """Whether a word of that first letter may begin within another."""
    return _joins().match(word) is not None


def begin(wanted: set[str], among: set[str]) -> bool:
    """Whether each of the wanted begins one of the words."""
    return all(any(word.startswith(one) for word in among) for one in wanted)


def are_within(wanted: set[str], among: set[str]) -> bool:
    """Whether each of the wanted begins one of the words, or one that is joined to others."""
    return all(any(_is_within(one, word) for word in among) for one in wanted)


def _is_within(wanted: str, word: str) -> bool:
    at = word.find(wanted)
    while at > 0 and not (_joins().match(word, at) or _joins().match(word, at - 1)):
        at = word.find(wanted, at + 1)
    return at >= 0
