"""The migrations that ship with the kit: numbered files, one folder a store."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import jts_storage
from jts_storage.errors import InvalidConfiguration

Store = Literal["clickhouse", "mongo", "relational"]
Phase = Literal["pre", "post"]

STORES: Final[tuple[Store, ...]] = ("clickhouse", "mongo", "relational")

_NAME = re.compile(r"(?P<revision>\d{4})_(?:(?P<phase>pre|post)_)?(?P<title>\w+)\.py")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file.

    :param phase: whether it comes before or after the code that needs it is deployed. A ``post``
        migration takes away what only the code before it used.
    :param checksum: of its text, so that a later edit is noticed.
    """

    store: Store
    revision: str
    title: str
    phase: Phase
    path: Path
    checksum: str


def root() -> Path:
    """The folder ``migrations``: inside an installed package, beside it in a checkout."""
    package = Path(jts_storage.__file__).parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise InvalidConfiguration(
        f"the folder of migrations is missing beside {package}",
        remedy="Install jts-storage anew; its wheel carries them.",
    )


def discover(store: Store, folder: Path | None = None) -> tuple[Migration, ...]:
    """The migrations of a store in their order.

    :param folder: the one that holds the stores' folders; the kit's own if None.
    :raises InvalidConfiguration: a file has no number, or one that is taken or leaves a gap.
    """
    versions = (folder or root()) / store / "versions"
    found = [_migration(store, path) for path in sorted(versions.glob("[!_]*.py"))]
    for number, migration in enumerate(found, start=1):
        if int(migration.revision) != number:
            raise InvalidConfiguration(
                f"{migration.path.name} should have the number {number:04}",
                remedy="Number migrations from 0001 on, without gaps.",
            )
    return tuple(found)


def checksum(path: Path) -> str:
    """Of the file's text, whatever its line ends are."""
    return hashlib.sha256("\n".join(path.read_text().splitlines()).encode()).hexdigest()[:16]


def _migration(store: Store, path: Path) -> Migration:
    parts = _NAME.fullmatch(path.name)
    if parts is None:
        raise InvalidConfiguration(
            f"{path} is no name of a migration", remedy="Name it like 0004_pre_add_column.py."
        )
    return Migration(
        store=store,
        revision=parts["revision"],
        title=parts["title"].replace("_", " "),
        phase="post" if parts["phase"] == "post" else "pre",
        path=path,
        checksum=checksum(path),
    )
