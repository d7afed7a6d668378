"""Importing without the collector of garbage."""

from __future__ import annotations

import gc

import pytest

from jts_storage._runtime.imports import without_collections


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
