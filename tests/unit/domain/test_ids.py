from __future__ import annotations

import time

import pytest

from jts_storage.domain import checks
from jts_storage.domain.ids import new_document_id, new_event_id


def test_a_document_id_is_one() -> None:
    assert checks.document_id(new_document_id(), "id")


def test_an_event_id_is_32_hexadecimal_digits() -> None:
    assert len(new_event_id()) == 32
    assert int(new_event_id(), 16) > 0


def test_ids_differ() -> None:
    assert len({new_document_id() for _ in range(1_000)}) == 1_000
    assert len({new_event_id() for _ in range(1_000)}) == 1_000


def test_later_ids_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = new_document_id(), new_event_id()
    second = time.time() + 2
    monkeypatch.setattr(time, "time", lambda: second)
    monkeypatch.setattr(time, "time_ns", lambda: int(second * 1e9))
    assert earlier[0] < new_document_id()
    assert earlier[1] < new_event_id()
