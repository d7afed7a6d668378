"""What a prune removes, and what it never does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.results import Pruned
from jts_storage.backup.retention import Retention
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.backup import BackupConfig

_REMEDY: Final = (
    "Put it back from a copy of the repository, or let such backups go: prune --forget-damaged."
)

log = logging.getLogger(__name__)


def retention_of(config: BackupConfig) -> Retention:
    """The rules that the settings name."""
    return Retention(
        last=config.keep_last,
        days=config.keep_days,
        daily=config.keep_daily,
        weekly=config.keep_weekly,
        monthly=config.keep_monthly,
        yearly=config.keep_yearly,
    )


def pruned(
    repository: BackupRepository, rules: Retention, *, dry_run: bool, forget_damaged: bool = False
) -> Pruned:
    """Remove what no rule keeps.

    Of a backup whose manifest cannot be read or is gone nobody knows the objects, and it may come
    back from a copy. So nothing is removed as long as there is one, unless it is to be forgotten.

    :param forget_damaged: remove also backups whose manifests are damaged or gone.
    :raises DamagedBackup: a manifest or the index is damaged or gone, and not `forget_damaged`.
    """
    with repository.held(reads=dry_run):
        readable, damaged = _looked_at(repository, forget_damaged=forget_damaged)
        kept = _kept(repository, rules, {name: each.created_at for name, each in readable.items()})
        removed = [*damaged, *(each for each in readable if each not in kept)]
        needed = {each for name in kept for each in readable[name].objects}
        is_known = dry_run or repository.remove(*removed)
        count, size = repository.sweep(needed, dry_run=dry_run)
        if not is_known:
            repository.remove(*removed)
    return Pruned(removed=tuple(removed), kept=kept, objects=count, bytes=size, is_dry_run=dry_run)


def readable_of(repository: BackupRepository, ids: Sequence[str] | None = None) -> list[Manifest]:
    """The backups that can be read, the one made first first."""
    found = []
    for identity in repository.ids() if ids is None else ids:
        try:
            found.append(repository.manifest(identity))
        except (DamagedBackup, InvalidConfiguration) as exc:
            log.warning("%s", exc)
    return found


def _looked_at(
    repository: BackupRepository, *, forget_damaged: bool
) -> tuple[dict[str, Manifest], list[str]]:
    """The manifests, and the backups that have none that can be read."""
    fault = repository.index_fault()
    if fault is not None and not forget_damaged:
        raise DamagedBackup(fault, remedy=_REMEDY)
    readable, damaged = {}, []
    for identity in repository.ids():
        try:
            readable[identity] = repository.manifest(identity)
        except DamagedBackup as exc:
            if not forget_damaged:
                raise DamagedBackup(str(exc.args[0]), remedy=_REMEDY) from exc
            damaged.append(identity)
    return readable, damaged


def _kept(
    repository: BackupRepository, rules: Retention, made: Mapping[str, datetime]
) -> dict[str, tuple[str, ...]]:
    """The backups that stay, each with the rules that keep it.

    One that is known not to restore stays for no other: the rules count the others without it. And
    the last are those that were made last, whatever the clock said then.
    """
    now = datetime.now(UTC)
    well = {each: at for each, at in made.items() if repository.outcome(each).failure is None}
    last = {each: ("last",) for names in (made, well) for each in _last(names, rules.last)}
    reasons: dict[str, set[str]] = {}
    for kept in (rules.kept(made, now), rules.kept(well, now), last):
        for each, why in kept.items():
            reasons.setdefault(each, set()).update(why)
    return {each: tuple(sorted(reasons[each])) for each in reversed(list(made)) if each in reasons}


def _last(names: Mapping[str, datetime], count: int) -> list[str]:
    return list(names)[-count:] if count else []
