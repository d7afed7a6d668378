"""Import the ClickHouse libraries without what costs a process much and is never used here.

clickhouse-driver makes a table of 146,000 dates as it is imported, unless its lazy one is asked
for by a variable. clickhouse-sqlalchemy imports ``requests`` for the HTTP interface, which the kit
does not speak. SQLAlchemy reads what every installed package names to find the dialect whose
options the columns of the tables have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Final

DEPENDS_ON = {
    "clickhouse_driver.columns:datecolumn": ("enable_lazy_date_lut", "make_date_lut_range"),
    "clickhouse_sqlalchemy.drivers.http:base": ("ClickHouseDialect_http",),
    "clickhouse_sqlalchemy.drivers.http:transport": ("requests",),
}
"""What is used of a module."""

_DIALECT: Final = ("clickhouse_sqlalchemy.drivers.http.base", "ClickHouseDialect_http")
_LAZY_DATES: Final = "CLICKHOUSE_DRIVER_LASY_DATE_LUT"  # so it is spelled there


class _WhenUsed(ModuleType):
    """Stands for a module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def import_libraries() -> None:
    """Import both libraries, if they are not there yet."""
    with _dates_when_used():
        import clickhouse_driver  # noqa: F401
    with _imported_when_used("requests"):
        import clickhouse_sqlalchemy.drivers.native.base  # noqa: F401
    from sqlalchemy.dialects import registry

    registry.register("clickhouse", *_DIALECT)  # as its own entry point does


@contextmanager
def _dates_when_used() -> Iterator[None]:
    is_ours = _LAZY_DATES not in os.environ
    if is_ours:
        os.environ[_LAZY_DATES] = "none at first"
    try:
        yield
    finally:
        if is_ours:
            del os.environ[_LAZY_DATES]


@contextmanager
def _imported_when_used(name: str) -> Iterator[None]:
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _WhenUsed(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
