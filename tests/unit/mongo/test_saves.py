"""What a save makes of an entity, without checking again what is checked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest

from jts_storage.domain import checks
from jts_storage.domain.formula import Formula
from jts_storage.domain.ids import new_document_id
from jts_storage.errors import InvalidData
from jts_storage.mongo.saves import marked, stamped
from jts_storage.testing.factories import make_formula, make_strategy


@pytest.mark.parametrize("entity", [make_formula("a"), make_strategy("b")])
def test_a_marked_entity_is_what_a_checked_one_would_be(entity: Any) -> None:
    values = {"id": new_document_id(), "version": 7, "updated_at": checks.now()}
    made, expected = marked(entity, **values), stamped(entity, **values)
    assert (type(made), made) == (type(expected), expected)
    assert [getattr(made, each.name) for each in fields(made)] == [
        getattr(expected, each.name) for each in fields(expected)
    ]
    assert (entity.id, entity.version) == (None, 1)


def test_entities_of_services_are_checked() -> None:
    @dataclass(frozen=True, slots=True)
    class Odd(Formula):
        def __post_init__(self) -> None:
            if self.version % 2 == 0:
                raise InvalidData("must be odd", field="version")

    with pytest.raises(InvalidData, match="odd"):
        marked(Odd(name="a", expression="1"), version=2)
