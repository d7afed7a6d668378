"""Moments are commits, times with a zone, or names of snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jts_storage.domain import checks
from jts_storage.domain.moments import Commit, version_at
from jts_storage.errors import InvalidData


@pytest.mark.parametrize("version", ["1", None, 1.5, True, -1, 2**200])
def test_a_commit_has_a_whole_number(version: Any) -> None:
    with pytest.raises(InvalidData, match="version"):
        Commit(version)


@pytest.mark.parametrize("moment", [checks.FIRST_TIMESTAMP, datetime(1969, 12, 31, tzinfo=UTC)])
def test_before_1970_no_commit_had_a_version(moment: datetime) -> None:
    assert version_at(moment) == 0 < version_at(checks.EPOCH)


def test_the_last_moment_that_a_version_can_tell() -> None:
    last = Commit(2**63 - 1).moment - timedelta(microseconds=1)
    assert Commit(version_at(last)).moment == last
    for later in (last + timedelta(microseconds=1), checks.LAST_TIMESTAMP):
        with pytest.raises(InvalidData, match="'before': lies in the future, got '22"):
            version_at(later, "before")
