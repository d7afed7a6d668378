"""Write docs/reference/settings.md from the models themselves.

``python scripts/generate_settings_reference.py`` writes it; with ``--check`` it only compares.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from jts_storage.domain.rate_limits import RateLimits
from jts_storage.settings import RetryPolicy, StorageSettings
from jts_storage.settings import backup as backups
from jts_storage.settings.fields import default_of, described, field_names
from jts_storage.settings.rate_limits import RateLimitFields
from jts_storage.settings.storage import PREFIX
from jts_storage.settings.stores import STORES
from jts_storage.settings.variables import ADDRESSES

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
TITLES = {
    "clickhouse": "ClickHouse",
    "mongo": "MongoDB",
    "database": "Bookkeeping",
    "redis": "Redis",
}

HEAD = """# Settings

Written by `scripts/generate_settings_reference.py` from the models in `jts_storage/settings/`.

With nothing set, every store is embedded below `.jts`, and there is no Redis. A setting is taken
from the nearest place that has it:

1. a keyword: `StorageSettings(clickhouse={"pool_size": 4})`;
2. the environment: `JTS_CLICKHOUSE_POOL_SIZE=4`;
3. the file `.env` in the working directory, with the same names (`StorageSettings(env_file=...)`
   takes another file, which must be there, `env_file=None` none);
4. the default.

A store's URL takes every field of the store as an option, by its name:
`clickhouse://host/jts?pool_size=4`, `postgresql://user:password@host/jts?pool_size=4`,
`mongodb://host/jts?max_retries=5`. Where URL and field are set in the same place, the field wins. A
URL that is set in a nearer place replaces the farther URL as a whole, and farther fields that it
names. The keyword `clickhouse_url=None` makes the store embedded, whatever the environment says.

An empty variable is not set. `JTS_CLICKHOUSE__POOL_SIZE`, with two underscores behind the store,
is the same as with one. A misspelled variable is refused, and the error suggests the right name:
every name that begins with `JTS_CLICKHOUSE_`, `JTS_MONGO_`, `JTS_DATABASE_` or `JTS_REDIS_` must
be one of these, and any other `JTS_` name must not look like one, nor like a field that lacks its
store (`JTS_POOL_SIZE`). Names that look like none belong to other programs and are ignored. Errors
say which variable, or which line of `.env`, is at fault, without its value.
"""


def reference() -> str:
    own = _table(_own_rows())
    return HEAD + f"\n## Of all stores\n\n{own}" + "".join(map(_section, STORES)) + _backups()


def _backups() -> str:
    """The section of `BackupConfig`, which is no store's and has no keywords of its own."""
    texts = described(backups.BackupConfig)
    rows = (
        (
            backups.PREFIX + field.name.upper(),
            field.name,
            _default(default_of(field)),
            _sentence(texts[field.name]),
        )
        for field in fields(backups.BackupConfig)
    )
    said = "Fields of `BackupConfig`, from the environment and `.env`."
    return f"\n## Backups\n\n{said}\n\n{_table(rows)}"


def _section(store: str) -> str:
    config = STORES[store].config.__name__
    said = f"Fields of `{config}`; as a keyword `{store}={{field: value}}`."
    return f"\n## {TITLES[store]}\n\n{said}\n\n{_table(_store_rows(store))}"


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| variable | keyword | default | |", "|---|---|---|---|"]
    lines += [
        f"| `{variable}` | `{name}` | {default} | {text} |"
        for variable, name, default, text in rows
    ]
    return "\n".join(lines) + "\n"


def _own_rows() -> Iterator[tuple[str, str, str, str]]:
    texts = _described()
    # Those of a base class come last.
    known = sorted(StorageSettings.model_fields, key=lambda n: n in RateLimitFields.model_fields)
    for name in known:
        field = StorageSettings.model_fields[name]
        if not name.startswith(tuple(f"{store}_" for store in STORES)):
            text = _sentence(texts[name])
            yield PREFIX + name.upper(), name, _default(field.default), text


def _store_rows(store: str) -> Iterator[tuple[str, str, str, str]]:
    cls = STORES[store].config
    prefix = f"{PREFIX}{store.upper()}_"
    url = _sentence(_described()[f"{store}_url"])
    yield f"{prefix}URL", f"{store}_url=", "", url
    texts, shared = described(cls), field_names(RetryPolicy)
    # What all stores share comes last.
    for field in sorted(fields(cls), key=lambda each: each.name in shared):
        if field.name not in ADDRESSES:
            default, text = _default(default_of(field)), _sentence(texts[field.name])
            yield prefix + field.name.upper(), field.name, default, text


def _described() -> dict[str, str]:
    """The texts below the fields; pydantic reads them, too, but at each start of a process."""
    models = (RateLimitFields, StorageSettings)
    bodies = [ast.parse(inspect.getsource(model)).body[0] for model in models]
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for model in bodies
        if isinstance(model, ast.ClassDef)
        for field, text in pairwise(model.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(text.value.value, str)
    }


def _sentence(text: str) -> str:
    words = " ".join(text.replace("``", "`").split()).replace("|", r"\|")
    return words[:1].upper() + words[1:]


def _default(value: Any) -> str:
    if value in (None, "", (), {}, RateLimits()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`"


def main() -> int:
    text = reference()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.stderr.write(
                f"{PAGE.name} is not what the models say: run"
                " scripts/generate_settings_reference.py.\n"
            )
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
