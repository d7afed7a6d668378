"""What an import asks of a lake of raw files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from jts_storage.domain.candle import SeriesKey


class LakeFile(Protocol):
    """A Parquet file and the series that its candles belong to."""

    @property
    def path(self) -> Path: ...
    @property
    def key(self) -> SeriesKey: ...


class Lake(Protocol):
    """Where raw files are kept by job."""

    def job_files(self, job_id: str, /) -> Sequence[LakeFile]:
        """The files of a job; none if there is no such job."""
        ...
