"""Columns of a table that seem to be columns of its model under other names."""

from __future__ import annotations

from collections import Counter

from jts_storage.clickhouse.create_texts import TableText


def renamed_columns(wanted: TableText, found: TableText) -> dict[str, str]:
    """Return what the table calls columns of the model, by the names in the model.

    A column that is missing and one that is too many are taken for the same where both have the
    same type and stand in the same place, or where there is only one such pair.
    """
    missing = [name for name in wanted.columns if name not in found.columns]
    surplus = [name for name in found.columns if name not in wanted.columns]
    places = dict(zip(wanted.columns, found.columns, strict=False))
    renamed = {
        name: places[name]
        for name in missing
        if places.get(name) in surplus and _alike(wanted, name, found, places[name])
    }
    missing = [name for name in missing if name not in renamed]
    surplus = [name for name in surplus if name not in renamed.values()]
    kinds = Counter(wanted.columns[name].type for name in missing)
    for name in missing:
        alike = [other for other in surplus if _alike(wanted, name, found, other)]
        if len(alike) == 1 and kinds[wanted.columns[name].type] == 1:
            renamed[name] = alike[0]
    return renamed


def _alike(wanted: TableText, name: str, found: TableText, other: str) -> bool:
    is_stored = not {"ALIAS", "EPHEMERAL"} & found.columns[other].parts.keys()
    return is_stored and wanted.columns[name].type == found.columns[other].type
