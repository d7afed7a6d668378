"""Sessions that are kept in files are those of the calendar, or are not used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import exchange_calendars
import numpy as np
import pytest

from jts_storage.domain import kept_sessions
from jts_storage.domain.calendar import ExchangeCalendar

FIRST, LAST = 1_704_067_200_000, 1_719_792_000_000
NAME = "XNYS"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    kept_sessions.keep_in(tmp_path / "calendars")
    yield tmp_path / "calendars"
    kept_sessions.keep_in(None)


def same(one: ExchangeCalendar, other: ExchangeCalendar) -> bool:
    a, b = one.sessions(FIRST, LAST), other.sessions(FIRST, LAST)
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def never(*_: object, **__: object) -> None:
    raise AssertionError("the calendar was made anew")


def test_they_are_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ExchangeCalendar(NAME)
    assert len(made.sessions(FIRST, LAST))
    monkeypatch.setattr(exchange_calendars, "get_calendar", never)
    assert same(ExchangeCalendar(NAME), made)
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


def test_nothing_is_kept_unless_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ExchangeCalendar(NAME).sessions(FIRST, LAST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_what_is_damaged_is_made_anew(folder: Path, text: bytes) -> None:
    made = ExchangeCalendar(NAME)
    made.sessions(FIRST, LAST)
    (file,) = folder.iterdir()
    file.write_bytes(text)
    assert same(ExchangeCalendar(NAME), made)
    assert file.stat().st_size > 1_000


@pytest.mark.parametrize("days", [31, -2])
def test_what_is_old_or_of_the_future_is_made_anew(
    folder: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ExchangeCalendar(NAME).sessions(FIRST, LAST)
    (file,) = folder.iterdir()
    moment = time.time() - days * 86_400
    os.utime(file, (moment, moment))
    monkeypatch.setattr(exchange_calendars, "get_calendar", never)
    with pytest.raises(AssertionError, match="made anew"):
        ExchangeCalendar(NAME).sessions(FIRST, LAST)


def test_another_release_makes_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ExchangeCalendar(NAME).sessions(FIRST, LAST)
    monkeypatch.setattr(kept_sessions, "version", lambda _: "99")
    ExchangeCalendar(NAME).sessions(FIRST, LAST)
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "calendars").write_text("a file")
    kept_sessions.keep_in(tmp_path / "calendars")
    try:
        assert len(ExchangeCalendar(NAME).sessions(FIRST, LAST))
    finally:
        kept_sessions.keep_in(None)


def test_a_name_is_no_path(folder: Path) -> None:
    kept_sessions.write("../XNYS", "2015-01-01", (np.zeros(1, np.int64),) * 5)
    assert not list(folder.parent.iterdir())
