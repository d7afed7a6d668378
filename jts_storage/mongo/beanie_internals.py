"""All that the kit uses of Beanie beside what it documents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from beanie.odm.operators import BaseOperator

DEPENDS_ON = {"beanie.odm.operators:BaseOperator": ("__len__", "query")}
"""What is used of a class. That it is a Mapping decides whether an operator is true."""

_REFUSE: ContextVar[Any] = ContextVar("refuse", default=None)


@contextmanager
def refused_truth(refuse: Any) -> Iterator[None]:
    """Within the block, asking whether an operator of Beanie is true calls this, which raises."""
    token = _REFUSE.set(refuse)
    try:
        yield
    finally:
        _REFUSE.reset(token)


def _is_true(self: Any) -> bool:
    refuse = _REFUSE.get()
    if refuse is not None:
        refuse()
    return len(self) > 0  # as a Mapping is, anywhere else


_operator: Any = BaseOperator  # to a checker it has no such method
_operator.__bool__ = _is_true
