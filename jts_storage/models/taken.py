"""Rows that another process has staged, checked a column at a time as those of a caller are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jts_storage.errors import InvalidData
from jts_storage.models.given import as_columns
from jts_storage.models.names import BASE, GONE, READ
from jts_storage.models.tables import AnyTable


def check_taken(model: AnyTable[Any], rows: pa.Table) -> None:
    """Check rows whose schema is that of a change of the model.

    :raises InvalidData: something is not as the model's repository would have staged it.
    """
    what = f"values of {model.name}"
    if model.mode == "append":
        as_columns(rows, model.schema, what)
        return
    _check_state(model, rows)
    keys = rows.select(list(model.key))
    as_columns(keys, pa.schema([model.schema.field(name) for name in model.key]), what)
    if keys.group_by(list(model.key)).aggregate([]).num_rows != rows.num_rows:
        raise InvalidData(f"{what} have a key twice", field="rows")
    kept = _kept(rows)
    as_columns(kept.select(model.schema.names), model.schema, what)
    if model.mode == "record":
        _check_versions(model, kept)


def _kept(rows: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.invert(rows.column(GONE)))


def _check_state(model: AnyTable[Any], rows: pa.Table) -> None:
    """What a commit is to do with each key."""
    import pyarrow.compute as pc

    for name in (GONE, BASE, READ):
        if rows.column(name).null_count:
            raise InvalidData(f"rows of {model.name} must say what becomes of them", field=name)
    deletes = model.mode == "record" or getattr(model, "deletes", False)
    if not deletes and pc.any(rows.column(GONE)).as_py():
        raise InvalidData(f"rows of {model.name} are never deleted", field=GONE)
    if rows.num_rows and pc.min(rows.column(BASE)).as_py() < 0:
        raise InvalidData(f"a version of {model.name} must not be negative", field=BASE)


def _check_versions(model: AnyTable[Any], kept: pa.Table) -> None:
    """Each record has the version after the one that was read."""
    import pyarrow.compute as pc

    versions = kept.column(model.version).cast(pa.int64())
    try:
        following = pc.add_checked(kept.column(BASE), 1)
    except pa.ArrowInvalid as exc:
        raise InvalidData("is no version", field=BASE) from exc
    row = pc.index(pc.equal(versions, following), False).as_py()
    if row >= 0:
        raise InvalidData(
            f"a record of {model.name} must have the version after the one that was read",
            field=model.version,
            value=versions[row].as_py(),
        )
