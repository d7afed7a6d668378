"""A query as clients of ClickHouse's native protocol send it, the older ones too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from jts_storage.clickhouse.driver_internals import (
    SENT_AS_NUMBERS,
    defines,
    read_binary_str,
    read_binary_uint8,
    read_binary_uint64,
    read_binary_uint128,
    read_varint,
)

_FORMAT: Final = re.compile(r"\bFORMAT\s+\w+[\s;]*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    :param text: without the format, which is the client's business: the wire has one of its own.
    :param settings: all of them, though a server passes over unknown ones that the client does not
        call important: here a mistake shall show.
    """

    text: str
    settings: dict[str, str]
    compressed: bool


def read_query(source: Any, revision: int) -> Query:
    """Read the packet that follows its number."""
    read_binary_str(source)  # query id
    if read_binary_uint8(source):
        _skip_client_info(source, revision)
    settings = {}
    as_texts = revision >= defines.DBMS_MIN_REVISION_WITH_SETTINGS_SERIALIZED_AS_STRINGS
    while name := read_binary_str(source):
        if as_texts:
            read_binary_uint8(source)  # flags
        number = not as_texts and name in SENT_AS_NUMBERS
        settings[name] = str(read_varint(source) if number else read_binary_str(source))
    if revision >= defines.DBMS_MIN_REVISION_WITH_INTERSERVER_SECRET:
        read_binary_str(source)
    read_varint(source)  # stage
    compressed = bool(read_varint(source))
    text = _FORMAT.sub("", read_binary_str(source))
    return Query(text, settings, compressed)


def _skip_client_info(source: Any, revision: int) -> None:
    for _ in ("user", "query id", "address"):
        read_binary_str(source)
    read_binary_uint8(source)
    for _ in ("user", "host", "client"):
        read_binary_str(source)
    for _ in ("major", "minor", "revision"):
        read_varint(source)
    if revision >= defines.DBMS_MIN_REVISION_WITH_QUOTA_KEY_IN_CLIENT_INFO:
        read_binary_str(source)
    if revision >= defines.DBMS_MIN_REVISION_WITH_VERSION_PATCH:
        read_varint(source)
    if revision >= defines.DBMS_MIN_REVISION_WITH_OPENTELEMETRY and read_binary_uint8(source):
        read_binary_uint128(source)
        read_binary_uint64(source)
        read_binary_str(source)
        read_binary_uint8(source)
