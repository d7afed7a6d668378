"""Write docs/reference/settings.md from the models themselves.

``python scripts/generate_settings_reference.py`` writes it; with ``--check`` it only compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from jts_storage.settings import StorageSettings
from jts_storage.settings.fields import default_of, described, field_names
from jts_storage.settings.storage import PREFIX
from jts_storage.settings.stores import STORES
from jts_storage.settings.variables import ADDRESSES

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
TITLES = {"clickhouse": "ClickHouse", "mongo": "MongoDB", "database": "Bookkeeping"}

HEAD = """# Settings

Written by `scripts/generate_settings_reference.py` from the models in `jts_storage/settings/`.

With nothing set, every store is embedded below `.jts`. A setting is taken from the nearest place
that has it:

1. a keyword: `StorageSettings(clickhouse={"pool_size": 4})`;
2. the environment: `JTS_CLICKHOUSE_POOL_SIZE=4`;
3. the file `.env` in the working directory, with the same names (`StorageSettings(env_file=...)`
   takes another file, `env_file=None` none);
4. the default.

A store's URL takes every setting of the store as an option, by its name:
`clickhouse://host/jts?pool_size=4`, `postgresql://user:password@host/jts?pool_size=4`,
`mongodb://host/jts?max_retries=5`. In one place, a setting of its own wins over the URL. The URL of a
nearer place replaces the whole URL of a farther one, and single settings there that it says otherwise.
A keyword `clickhouse_url=None` says that the store is embedded, whatever the environment says.

A variable that is empty is not set. Two underscores behind the name of a store are read as one:
`JTS_CLICKHOUSE__POOL_SIZE`. A variable that begins as those of a store but is none of them, or that
looks like one of these, is refused with the name that was probably meant; other `JTS_*` variables are
left to other programs. Errors name the variable, or the line of the file, and never show its value.
"""


def reference() -> str:
    return HEAD + _table("Of all stores", _own_rows()) + "".join(map(_store, STORES))


def _store(name: str) -> str:
    return _table(TITLES[name], _store_rows(name))


def _table(title: str, rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = [f"\n## {title}\n", "| variable | keyword | default | |", "|---|---|---|---|"]
    lines += [
        f"| `{variable}` | `{keyword}` | {default} | {text} |"
        for variable, keyword, default, text in rows
    ]
    return "\n".join(lines) + "\n"


def _own_rows() -> Iterator[tuple[str, str, str, str]]:
    for name, field in StorageSettings.model_fields.items():
        if not name.startswith(tuple(f"{store}_" for store in STORES)):
            text = _sentence(field.description)
            yield PREFIX + name.upper(), name, _default(field.default), text


def _store_rows(name: str) -> Iterator[tuple[str, str, str, str]]:
    kind = STORES[name]
    url = _sentence(StorageSettings.model_fields[f"{name}_url"].description)
    yield f"{PREFIX}{name.upper()}_URL", f"{name}_url", "embedded", url
    texts = described(kind.config)
    defaults = {f.name: default_of(f) for f in fields(kind.config)}
    order = [each for each in field_names(kind.config) if each not in ADDRESSES]
    for each in sorted(order):
        keyword = f"{name}={{{each!r}: ...}}".replace("'", '"')
        default = _default(defaults[each])
        yield f"{PREFIX}{name.upper()}_{each.upper()}", keyword, default, _sentence(texts[each])


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").replace("``", "`").split()).replace("|", r"\|")
    return words[:1].upper() + words[1:]


def _default(value: Any) -> str:
    if value in (None, "", (), {}):
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
