"""New migration files, written from templates."""

from __future__ import annotations

from pathlib import Path

import jts_storage
from jts_storage.errors import InvalidConfiguration
from jts_storage.migrate.files import Chain, Phase, Store, chains, root

_OF_THE_KIT = "script.py.mako"
_OF_A_SERVICE = "service.py.mako"


def new(store: Store, name: str, *, phase: Phase = "pre", folder: Path | None = None) -> Path:
    """Write a new migration file from the template, with the next number.

    :param folder: the one that holds the stores' folders, made if it is not there; the kit's own
        in a checkout.
    :raises InvalidConfiguration: the name cannot be one of a file, or there is no folder for it.
    """
    slug = "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    if not slug or not slug.isascii():
        raise InvalidConfiguration(
            f"no file can be named after {name!r}", remedy="Say in a few words what it does."
        )
    chain = _chain(store, folder)
    files = chain.migrations(store)
    template = _OF_THE_KIT if chain.name == "kit" else _OF_A_SERVICE
    revision = f"{len(files) + 1:04}"
    after = files[-1].revision if files else None
    text = (chain.home(store) / template).read_text()
    text = text.replace("${message}", name.strip().capitalize())
    text = text.replace("${title}", slug.replace("_", " "))
    text = text.replace("${repr(up_revision)}", f'"{revision}"')
    text = text.replace("${repr(down_revision)}", f'"{after}"' if after else "None")
    prefix = "post_" if phase == "post" else ""
    path = chain.versions(store) / f"{revision}_{prefix}{slug}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _chain(store: Store, folder: Path | None) -> Chain:
    """What the folder holds: the kit's migrations if it has their template, else a service's."""
    if folder is None:
        if root().parent == Path(jts_storage.__file__).parent:
            raise InvalidConfiguration(
                "there is no folder for migrations of your own",
                remedy="Name one in JTS_MIGRATIONS or --folder.",
            )
        return Chain("kit", root())
    if (folder / store / _OF_THE_KIT).is_file():
        return Chain("kit", folder)
    folder.mkdir(parents=True, exist_ok=True)
    return chains(None, folder)[-1]
