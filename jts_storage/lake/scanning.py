"""Many files of ours in one parallel scan.

Arrow decodes files ahead in its own threads while each is turned into columns here, still in the
processor's cache. Whatever is unusual is left to the reader of single files, which says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from jts_storage.domain.columns import Columns, concatenate
from jts_storage.errors import InvalidData
from jts_storage.lake.files import SCHEMA, FileFacts, facts_of, own_columns

_READAHEAD = 16


def scan(paths: Sequence[Path]) -> list[tuple[Columns, FileFacts]] | None:
    """Columns and facts of each file in order; None if one is damaged, gone or not ours."""
    options = ds.ParquetFragmentScanOptions(pre_buffer=False, page_checksum_verification=True)
    reader = ds.ParquetFileFormat(default_fragment_scan_options=options)
    system = LocalFileSystem()
    fragments = [reader.make_fragment(str(path), system) for path in paths]
    found = ds.FileSystemDataset(fragments, SCHEMA, reader, system)
    try:
        parts = _parts(found.scanner(fragment_readahead=_READAHEAD))
        if parts is None:
            return None
        read = []
        for path, fragment in zip(paths, fragments, strict=True):
            facts = facts_of(fragment.metadata, path)
            ours = facts.fingerprint is not None and fragment.physical_schema.equals(SCHEMA)
            own = parts.get(fragment.path, [])
            columns = own[0] if len(own) == 1 else concatenate(own)
            if not ours or columns.rows != facts.rows:
                return None
            read.append((columns, facts))
    except (OSError, pa.ArrowException, InvalidData):
        return None
    return read


def _parts(scanner: Any) -> dict[str, list[Columns]] | None:
    parts: dict[str, list[Columns]] = {}
    for tagged in scanner.scan_batches():
        columns = own_columns(tagged.record_batch)
        if columns is None:
            return None
        parts.setdefault(tagged.fragment.path, []).append(columns)
    return parts
