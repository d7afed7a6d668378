"""Which program wrote the files of a service: another, or an earlier one, must not open them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jts_storage.services.programs import Found

_STAMP: Final = "written_by.json"
_WHOLE_MAJOR: Final = frozenset({"postgres"})
"""Those whose files are for one major version alone."""

_STEPS: Final = frozenset({"mongod"})
"""Those that pass over no major version on the way up."""


def write_stamp(folder: Path, found: Found) -> None:
    file = folder / _STAMP
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"kind": found.kind, "version": found.version}))
    draft.replace(file)


def why_not_for(folder: Path, found: Found) -> str:
    """Why a program must not open the files of a folder; empty if it may, or there are none."""
    written = _written(folder)
    if written is None:
        return ""
    kind, version = written
    what = f"its data were written by {kind} {version}, and here is {found.kind} {found.version}"
    if kind != found.kind:
        return what
    stored, ours = _numbers(version), _numbers(found.version)
    if kind in _WHOLE_MAJOR:
        return what if stored[0] != ours[0] else ""
    if ours[:2] < stored[:2]:
        return f"{what}, which is older"
    if kind in _STEPS and ours[0] > stored[0] + 1:
        return f"{what}: there is a version between them that has to run first"
    return ""


def _written(folder: Path) -> tuple[str, str] | None:
    try:
        told = json.loads((folder / _STAMP).read_bytes())
        return str(told["kind"]), str(told["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:  # of a start that was cut short
        return "postgres", (folder / "data" / "PG_VERSION").read_text().strip()
    except OSError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal()) or (0,)
