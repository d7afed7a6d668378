"""Files that scripts write, or compare with what is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def written(files: Mapping[Path, str], *, check: bool) -> None:
    """Write them; or leave with 1 if one is not as it would be written."""
    for file, text in files.items():
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            sys.exit(f"{file} is not up to date.")
