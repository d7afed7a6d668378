"""The values of a file that is one array of JSON, read piece by piece."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jts_storage.errors import InvalidData
from jts_storage.readers import text_files
from jts_storage.readers.file_source import cut_off
from jts_storage.readers.json_values import DECODER

_READ_CHARACTERS = 1 << 20
_LONGEST_OBJECT = 1 << 24
_BLANKS: Final = re.compile("[ \t\r\n\ufeff]*")
_PLAIN: Final = json.JSONDecoder()
"""Of objects only their beginning and end are wanted, which takes half the time."""


def objects(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each value of the array on one line, as it is written, and what it is.

    The numbers of an array are as they are written.
    """
    try:
        with text_files.opened(path) as file:
            rest = _Rest(codecs.getreader("utf-8-sig")(file), name)
            rest.after("[")
            number = 0
            while rest.next() != "]":
                number += 1
                yield rest.value(f"{name}, row {number}")
                if not rest.after(",") and rest.next() != "]":
                    raise InvalidData(f"{name}, row {number}: no comma stands behind it.")
            rest.after("]")
            if not rest.is_end():
                raise InvalidData(f"{name}: something stands behind the end of its array.")
    except EOFError as exc:
        raise cut_off(name) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidData(f"{name} cannot be read: {exc}") from exc


class _Rest:
    """What is not read yet of a file: text, from a place in it on, which is not cut off each time.

    :param stream: gives what follows.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name
        self._text = ""
        self._at = 0

    def next(self) -> str:
        """The next character that is no blank.

        :raises InvalidData: there is none, although the array is not closed.
        """
        if self.is_end():
            raise InvalidData(f"{self._name} ends within its array.", remedy="Copy it again.")
        return self._text[self._at]

    def after(self, mark: str) -> bool:
        """Go behind a mark, if it comes next."""
        is_there = self.next() == mark
        self._at += is_there
        return is_there

    def is_end(self) -> bool:
        """Whether nothing but blanks comes."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text):
                return False
            if not self._more():
                return True

    def _more(self) -> bool:
        """Read on; False if there is nothing more."""
        more = self._stream.read(_READ_CHARACTERS)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def value(self, where: str) -> tuple[str, Any]:
        """The next value, on one line, and what it is."""
        decoder = DECODER if self.next() == "[" else _PLAIN
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except RecursionError as exc:
                raise InvalidData(f"{where}: is nested too deeply.") from exc
            except ValueError as exc:
                is_long = len(self._text) - self._at >= _LONGEST_OBJECT
                if is_long or not self._more():
                    raise InvalidData(f"{where}: is no JSON: {exc}.") from exc
                continue
            # The digits of a number may go on; the end of all else is seen.
            if end == len(self._text) and not isinstance(value, dict | list | str):
                if self._more():
                    continue
                end = len(self._text)
            text, self._at = self._text[self._at : end], end
            # Line breaks stand between values only: within texts they are escaped.
            return text.replace("\n", " ").replace("\r", " "), value
