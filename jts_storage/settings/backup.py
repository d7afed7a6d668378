"""Where backups are kept, with which key, and for how long."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from jts_storage.settings.fields import (
    STRICT,
    Password,
    Text,
    configuration,
    field_names,
    from_text,
)
from jts_storage.settings.variables import of_environment, of_file, refuse_misspelled

PREFIX: Final = "JTS_BACKUP_"
Count = Annotated[int, Field(ge=0, le=100_000)]


@configuration
@dataclass(frozen=True, slots=True, repr=False, config=STRICT)
class BackupConfig:
    """Everything that is set of backups.

    :param repository: the folder that they are kept in; it belongs on another disk.
    :param key: encrypts them; ``jts-storage backup key`` makes one.
    :param verify: whether each backup is restored into scratch stores and compared; if not set,
        those of embedded stores are.
    :param keep_last: so many of the newest are kept.
    :param keep_days: all that are younger than so many days are kept.
    :param keep_daily: the newest of each of so many days is kept.
    :param keep_weekly: the newest of each of so many weeks is kept.
    :param keep_monthly: the newest of each of so many months is kept.
    :param keep_yearly: the newest of each of so many years is kept.
    :param schedule: when `BackupSchedule` makes one, as cron says it, in UTC.
    """

    repository: Text = ".jts-backups"
    key: Password | None = None
    verify: bool | None = None
    keep_last: Count = 2
    keep_days: Count = 30
    keep_daily: Count = 0
    keep_weekly: Count = 0
    keep_monthly: Count = 0
    keep_yearly: Count = 0
    schedule: Text = "0 2 * * *"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``JTS_BACKUP_<FIELD>`` variables, and those of ``.env``; an empty one is not set.

        :raises InvalidConfiguration: a value cannot be read, or a name is misspelled.
        """
        given = of_environment(os.environ if environ is None else environ)
        every = [*(of_file(Path(".env")) if environ is None else ()), *given]
        variables = [each for each in every if each.name.startswith(PREFIX)]
        kind: Any = cls
        names = {PREFIX + name.upper(): name for name in field_names(kind)}
        refuse_misspelled(variables, set(names), (PREFIX,))
        return cls(
            **{
                names[each.name]: from_text(
                    cls, names[each.name], each.text, each.origin, shows=True
                )
                for each in variables
                if each.text
            }
        )
