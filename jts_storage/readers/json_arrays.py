"""The values of a file that is one array of JSON, read piece by piece."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jts_storage.errors import InvalidData
from jts_storage.readers import text_files
from jts_storage.readers.file_source import cut_off

_READ_CHARACTERS = 1 << 20
_LONGEST_OBJECT = 1 << 24
_BLANKS = " \t\r\n\ufeff"


def objects(path: Path, name: str) -> Iterator[tuple[str, object]]:
    """Yield each value of the array on one line, as it is written, and what it is."""
    decoder = json.JSONDecoder()
    try:
        with text_files.opened(path) as file:
            text = codecs.getreader("utf-8-sig")(file)
            rest = _after_blanks(_after_blanks("", text, name).removeprefix("["), text, name)
            number = 0
            while not rest.startswith("]"):
                number += 1
                value, end, rest = _end_of(decoder, rest, text, f"{name}, row {number}")
                # Line breaks stand between values only: within texts they are escaped.
                yield rest[:end].replace("\n", " ").replace("\r", " "), value
                rest = _after_blanks(rest[end:], text, name)
                if rest.startswith(","):
                    rest = _after_blanks(rest[1:], text, name)
                elif not rest.startswith("]"):
                    raise InvalidData(f"{name}, row {number}: no comma stands behind it.")
            if not _is_end(rest.removeprefix("]"), text):
                raise InvalidData(f"{name}: something stands behind the end of its array.")
    except EOFError as exc:
        raise cut_off(name) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidData(f"{name} cannot be read: {exc}") from exc


def _is_end(rest: str, text: Any) -> bool:
    """Whether nothing but blanks comes."""
    while not rest.lstrip(_BLANKS):
        rest = text.read(_READ_CHARACTERS)
        if not rest:
            return True
    return False


def _after_blanks(rest: str, text: Any, name: str) -> str:
    """What comes next that is no blank.

    :raises InvalidData: nothing does, although the array is not closed.
    """
    rest = rest.lstrip(_BLANKS)
    while not rest:
        more = text.read(_READ_CHARACTERS)
        if not more:
            raise InvalidData(f"{name} ends within its array.", remedy="Copy it again.")
        rest = more.lstrip(_BLANKS)
    return rest


def _end_of(decoder: json.JSONDecoder, rest: str, text: Any, where: str) -> tuple[object, int, str]:
    """The value with which `rest` begins, where it ends, and the rest with as much as it took."""
    while True:
        try:
            value, end = decoder.raw_decode(rest)
        except RecursionError as exc:
            raise InvalidData(f"{where}: is nested too deeply.") from exc
        except ValueError as exc:
            more = text.read(_READ_CHARACTERS) if len(rest) < _LONGEST_OBJECT else ""
            if not more:
                raise InvalidData(f"{where}: is no JSON: {exc}.") from exc
        else:
            # The digits of a number may go on; the end of all else is seen.
            more = text.read(_READ_CHARACTERS) if end == len(rest) else ""
            if not more or isinstance(value, dict | list | str):
                return value, end, rest + more
        rest += more
