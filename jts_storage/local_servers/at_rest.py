"""The mark of a mongod folder that is at rest: mongod has stopped, and nothing is left to be done.

With it a program knows, without starting mongod, that there is no unfinished commit. It is removed
before mongod is started, by the one way in which the kit starts it. It also names the state of the
database files, so that it does not count once anything else has run a mongod on them: an earlier
release, or an administrator.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_MARK: Final = "at_rest.json"
_TURTLE: Final = Path("db", "WiredTiger.turtle")
"""WiredTiger replaces it at each of its checkpoints, so also when mongod starts and when it ends.
"""

_LOCK: Final = Path("db", "mongod.lock")
"""Holds the process id while mongod runs, and after it was killed."""


def is_marked(folder: Path) -> bool:
    """Return whether the folder was marked and no mongod has run on it since."""
    try:
        told = json.loads((folder / _MARK).read_bytes())
        state = _state(folder)
        return state is not None and isinstance(told, dict) and told.get("files") == state
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError) as exc:
        log.warning(
            "%s cannot be read (%s), so mongod is started to look for unfinished commits.",
            folder / _MARK,
            exc,
        )
        return False


def mark(folder: Path) -> None:
    """Mark the folder, whose mongod has just stopped; do nothing if it did not stop in order."""
    with suppress(OSError):  # no mark means that the next one looks for itself
        state = _state(folder)
        if state is None:
            return
        made = folder / f"{_MARK}.new"
        with made.open("w") as file:
            json.dump({"files": state}, file)
            file.flush()
            os.fsync(file.fileno())
        made.replace(folder / _MARK)


def forget(folder: Path) -> None:
    """Remove the mark for good, also if the power fails at the next moment."""
    try:
        (folder / _MARK).unlink()
    except FileNotFoundError:
        return
    except OSError:
        if not (folder / _MARK).is_dir():
            raise
        return  # nobody takes a folder for a mark
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _state(folder: Path) -> list[int] | None:
    """What tells the files of the database from those after another run; None while one runs."""
    if (folder / _LOCK).stat().st_size:
        return None
    turtle = (folder / _TURTLE).stat()
    return [turtle.st_mtime_ns, turtle.st_size]
