"""Migrations: numbered files, one folder a store; the kit's own, and those of a service."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import jts_storage
from jts_storage.errors import InvalidConfiguration

Store = Literal["clickhouse", "mongo", "relational"]

KNOWN_AS: Final[Mapping[Store, str]] = {
    "clickhouse": "clickhouse",
    "mongo": "mongo",
    "relational": "database",
}
"""What metrics and `health` call each store."""

Phase = Literal["pre", "post"]
ChainName = Literal["kit", "service"]

STORES: Final[tuple[Store, ...]] = ("clickhouse", "mongo", "relational")

_NAME = re.compile(r"(?P<revision>\d{4})_(?:(?P<phase>pre|post)_)?(?P<title>\w+)\.py")
_NUMBERED = re.compile(r"\d{4}_.*\.py")
_SAYS = re.compile(r"^(?P<name>(?:down_)?revision)\b[^=\n]*=\s*[\"']?(?P<value>\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chain:
    """Migrations with numbers of their own, which each store records apart from other chains.

    :param folder: holds one folder a store.
    :param is_alone: whether it is the only chain; then messages leave out its name.
    """

    name: ChainName
    folder: Path
    is_alone: bool = True

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "" if self.is_alone else self.name

    @property
    def suffix(self) -> str:
        """The end of the names of its tables and collections."""
        return "" if self.name == "kit" else f"_{self.name}"

    def versions(self, store: Store) -> Path:
        """The folder of a store's files."""
        below = self.folder / store
        inner = below / "versions"
        # An empty one hides nothing of what lies beside it.
        is_used = inner.is_dir() and (any(inner.glob("*.py")) or not any(below.glob("[0-9]*.py")))
        return inner if is_used else below

    def home(self, store: Store) -> Path:
        """The folder with Alembic's environment, which a service has not."""
        return (self.folder if self.name == "kit" else root()) / store

    def migrations(self, store: Store) -> tuple[Migration, ...]:
        """List a store's migrations in their order.

        :raises InvalidConfiguration: a file has no number, or one that is taken or leaves a gap.
        """
        files = sorted(self.versions(store).glob("[!_]*.py"))
        found = [_migration(self, store, path) for path in files]
        for number, (before, migration) in enumerate(zip([None, *found], found, strict=False), 1):
            _check_number(migration, number, before)
        return tuple(found)


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
    chain: Chain


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


def chains(folder: Path | None = None, service: Path | None = None) -> list[Chain]:
    """List the chains in the order in which they are applied: the kit's, then the service's.

    :param folder: the kit's migrations, if elsewhere.
    :param service: the folder of a service's own migrations, if it has one.
    :raises InvalidConfiguration: that is no folder, or has migrations where none are looked for.
    """
    kit = Chain("kit", folder or root(), is_alone=service is None)
    if service is None:
        return [kit]
    service = service.absolute()
    if not service.is_dir():
        raise InvalidConfiguration(
            f"{service}, which should hold the service's migrations, is no folder",
            remedy="Name another one in JTS_MIGRATIONS or --folder, or let `jts-storage migrate"
            " new` make it.",
        )
    known = {service / store for store in STORES}
    for path in sorted([*service.glob("*.py"), *service.glob("*/*.py")]):
        if _NUMBERED.fullmatch(path.name) and path.parent not in known:
            raise InvalidConfiguration(
                f"{path} belongs to no store",
                remedy=f"Put it in one of the folders {', '.join(STORES)} in {service}.",
            )
    return [kit, Chain("service", service, is_alone=False)]


def stores_of(service: Path | None) -> set[Store]:
    """The stores for which a service has migrations."""
    own = [chain for chain in chains(None, service) if chain.name == "service"]
    return {store for chain in own for store in STORES if chain.migrations(store)}


def discover(store: Store, folder: Path | None = None) -> tuple[Migration, ...]:
    """The kit's migrations of a store in their order.

    :param folder: the one that holds the stores' folders; the kit's own if None.
    :raises InvalidConfiguration: a file has no number, or one that is taken or leaves a gap.
    """
    return Chain("kit", folder or root()).migrations(store)


def checksum(path: Path) -> str:
    """Of the file's text, whatever its line ends are.

    :raises InvalidConfiguration: it cannot be read, or is no text in UTF-8.
    """
    return hashlib.sha256("\n".join(_text(path).splitlines()).encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidConfiguration(
            f"the migration {path} is no text in UTF-8: {exc.reason} at byte {exc.start}",
            remedy="Store the file as UTF-8.",
        ) from exc
    except OSError as exc:
        what = "a link that leads nowhere" if path.is_symlink() and not path.exists() else None
        raise InvalidConfiguration(
            f"the migration {path} cannot be read: {what or exc.strerror or exc}",
            remedy="Put the file itself there, readable, or take its name away.",
        ) from exc


def _migration(chain: Chain, store: Store, path: Path) -> Migration:
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
        chain=chain,
    )


def _check_number(migration: Migration, number: int, before: Migration | None) -> None:
    path, revision = migration.path, f"{number:04}"
    if before is not None and before.revision == migration.revision:
        raise InvalidConfiguration(
            f"{before.path} and {path.name} have one number",
            remedy=f"Give the one that is not applied anywhere yet the number {revision}.",
        )
    if migration.revision != revision:
        raise InvalidConfiguration(
            f"{path} should have the number {revision}",
            remedy="Number migrations from 0001 on, without gaps.",
        )
    if migration.chain.name == "service" and migration.store != "mongo":
        _check_what_it_says(path, revision, f"{number - 1:04}" if before else "None")


def _check_what_it_says(path: Path, revision: str, before: str) -> None:
    """Compare a file with its name: Alembic goes by what is in the file."""
    should = {"revision": revision, "down_revision": before}
    says = _SAYS.finditer(_text(path))
    if any(found["value"] != should[found["name"]] for found in says):
        above = before if before == "None" else f'"{before}"'
        raise InvalidConfiguration(
            f"{path} has another number inside than in its name",
            remedy=f'Write revision = "{revision}" and down_revision = {above}.',
        )
