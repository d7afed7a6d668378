"""What was asked of the infrastructure is found by its name at the tests that show it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
WANTED = [
    *(f"UT-INFRA-{group:02}.{number}" for group in (1, 2, 3, 4) for number in (1, 2, 3)),
    *(f"ET-INFRA-{group:02}.{number}" for group in (1, 2, 3, 4) for number in (1, 2)),
    *(f"PT-INFRA-{group:02}.1" for group in (1, 2, 3, 4)),
    *(f"IT-INFRA-{group:02}" for group in (1, 2, 3, 4)),
]


@cache
def _text() -> str:
    own = Path(__file__)
    return "".join(file.read_text() for file in TESTS.rglob("test_*.py") if file != own)


@pytest.mark.parametrize("name", WANTED)
def test_it_is_at_a_test(name: str) -> None:
    assert name in _text()
