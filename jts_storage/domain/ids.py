"""Identifiers, made before the first write so that a repeated write is the same write."""

from __future__ import annotations

import secrets
import time


def new_document_id() -> str:
    """24 hexadecimal digits: the second first, so that later ids sort later."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


def new_event_id() -> str:
    """32 hexadecimal digits: the millisecond first, so that later ids sort later."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
