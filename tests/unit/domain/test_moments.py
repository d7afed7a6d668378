"""Moments are commits, times with a zone, or names of snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData


@pytest.mark.parametrize("version", ["1", None, 1.5, True, -1, 2**200])
def test_a_commit_has_a_whole_number(version: Any) -> None:
    with pytest.raises(InvalidData, match="version"):
        Commit(version)
