"""What client and gateway agree on beside the messages."""

from __future__ import annotations

from typing import Final

MAJOR: Final = 1
MINOR: Final = 2
"""Counts up with what is added; a client asks for nothing that a gateway's minor does not have."""

TRADES_SINCE: Final = 1
"""The minor from which on trades travel in columns."""

SPEAKS: Final = "jts-minor"
"""The header by which a client tells its minor; one of the first release has none."""

TRACE: Final = "traceparent"
"""The header of the trace that a call belongs to, as W3C has it; only of who is traced."""

WHOLE_SINCE: Final = 1
"""The minor from which on a gateway takes a whole unit of work in one request."""

PACKAGE: Final = "jts.storage.v1"
HANDLERS: Final = "handlers"
"""The capability of a gateway whose stores keep events until handlers have had them."""

CAPABILITIES: Final = ("candles", "documents", "bookkeeping", "history", "work", "models")

MESSAGE_BYTES: Final = 8 * 2**20
"""Of one message: parts are below 4 MiB, and a client may have a longer list of keys to ask for."""

COMPRESSION: Final = "jts-compression"

BOTH_ENDS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
)


def path_of(service: str, method: str) -> str:
    return f"/{PACKAGE}.{service}/{method}"
