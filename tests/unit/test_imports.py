"""Importing without the collector of garbage."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType

import pytest

from jts_storage._runtime.imports import without_collections

_NEW = "a_module_that_was_not_imported"


def test_the_collector_is_off_meanwhile_and_on_afterwards() -> None:
    with pytest.raises(ImportError), without_collections():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with without_collections():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


class _Kept:
    """The collector looks after objects that may refer to others."""


def _is_young(wanted: object) -> bool:
    return any(each is wanted for young in (0, 1) for each in gc.get_objects(young))


@pytest.fixture
def thawed() -> Iterator[None]:
    """The suite freezes what it has imported."""
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    if is_frozen:
        gc.freeze()


@pytest.mark.usefixtures("thawed")
def test_what_was_imported_is_looked_at_by_full_collections_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _Kept()
    assert _is_young(before)
    with without_collections():
        monkeypatch.setitem(sys.modules, _NEW, ModuleType(_NEW))
        made = _Kept()
        made.itself = made  # type: ignore[attr-defined]
    assert not _is_young(made)
    kept = weakref.ref(made)
    del made
    gc.collect()
    assert kept() is None


@pytest.mark.usefixtures("thawed")
def test_where_nothing_was_imported_nothing_counts_as_old() -> None:
    """Settings are read often; each time would make old what is garbage soon."""
    with without_collections():
        made = _Kept()
    assert _is_young(made)


@pytest.mark.usefixtures("thawed")
def test_what_a_program_has_frozen_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.freeze()
    with without_collections():
        monkeypatch.setitem(sys.modules, _NEW, ModuleType(_NEW))
    assert gc.get_freeze_count()
    gc.unfreeze()
