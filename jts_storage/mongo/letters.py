"""Make a regular expression that finds the words that begin with a word, whatever their case.

``str.casefold`` makes several letters of some ("ß" becomes "ss") and equals of others ("K", the
sign of Kelvin, becomes "k"). A server's pattern knows the upper and lower case of one letter only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Final

from jts_storage.domain.words import begins_anywhere

_LAST_WITH_CASE: Final = 0x20000  # no letter of Unicode's later planes has a case
_CHOICES: Final = 3
"""Places in a word at which several letters may stand as one, of which each doubles the pattern."""
_NO_WORD_BEFORE: Final = r"(?<![0-9A-Za-z_])"


def beginning(word: str) -> str:
    """A pattern, whatever the case, that finds every text in which `word` begins a word.

    It finds some others, too. In scripts that join words, every letter may begin one.

    :param word: folded, and of word characters alone.
    """
    # No word character precedes a word. The ASCII ones are those that every engine agrees on.
    before = "" if begins_anywhere(word) else _NO_WORD_BEFORE
    whole = before + _pattern(word, _CHOICES)
    # Of "ᾷ", folded to three characters, the second ends a word and the third begins one.
    inner = [
        letter + _pattern(word[len(tail) :], 0)
        for letter, tail in _tails().get(word[:1], ())
        if word.startswith(tail) or tail.startswith(word)
    ]
    return f"(?:{'|'.join([whole, *inner])})" if inner else whole


def _pattern(word: str, choices: int) -> str:
    """Return a pattern for the word; once no choice is left it ends, and matches more."""
    asked: list[str] = []
    for position, letter in enumerate(word):
        rest = word[position:]
        longer = [
            (single, len(folded))
            for single, folded, ends in _expanding().get(letter, ())
            if folded.startswith(rest) or (rest.startswith(folded) and not ends)
        ]
        if not longer:
            asked.append(_one(letter))
            continue
        if choices:
            alternatives = [_one(letter) + _pattern(rest[1:], choices - 1)]
            for length in sorted({length for _, length in longer}):
                singles = "".join(single for single, its in longer if its == length)
                alternatives.append(f"[{singles}]" + _pattern(rest[length:], choices - 1))
            asked.append(f"(?:{'|'.join(alternatives)})")
        break
    return "".join(asked)


def _one(letter: str) -> str:
    """The letter, and every other one that is folded to it."""
    others = _equals().get(letter, "")
    return f"[{letter}{others}]" if others else letter


@cache
def _folded() -> Mapping[str, str]:
    """The letters that folding changes."""
    letters = map(chr, range(_LAST_WITH_CASE))
    return {letter: folded for letter in letters if (folded := letter.casefold()) != letter}


@cache
def _equals() -> Mapping[str, str]:
    """By letter, those that are folded to it and to nothing more; of ASCII, but for its capital."""
    found: dict[str, str] = defaultdict(str)
    for letter, folded in _folded().items():
        if len(folded) == 1 and not letter.isascii():
            found[folded] += letter
    return found


@cache
def _expanding() -> Mapping[str, list[tuple[str, str, bool]]]:
    """By first letter: single letters, what they are folded to, and whether that ends the word."""
    found: dict[str, list[tuple[str, str, bool]]] = defaultdict(list)
    for letter, folded in _folded().items():
        head = re.match(r"\w+", folded)
        if len(folded) > 1 and head:
            found[head[0][0]].append((letter, head[0], head[0] != folded))
    return found


@cache
def _tails() -> Mapping[str, list[tuple[str, str]]]:
    """By first letter, the words that begin within a single letter, each with it."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for letter, folded in _folded().items():
        for tail in re.findall(r"(?<=\W)\w+$", folded):
            found[tail[0]].append((letter, tail))
    return found
