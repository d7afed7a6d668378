"""Types of columns that keep money and times exactly in SQLite and PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, DateTime, Numeric
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from jts_storage.errors import InvalidConfiguration, InvalidData


def milliseconds() -> TypeEngine[datetime]:
    """PostgreSQL's type of them; its dialect is imported only where that is the database."""
    from sqlalchemy.dialects.postgresql import TIMESTAMP

    return TIMESTAMP(timezone=True, precision=3)


class Exact(TypeDecorator[Decimal]):
    """Money: NUMERIC in PostgreSQL, a scaled integer in SQLite, which would make a float of it."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = 18, scale: int = 4) -> None:
        if not 0 <= scale <= precision <= 18:
            raise InvalidConfiguration(
                f"a Decimal({precision}, {scale}) is too long for SQLite's integers",
                remedy="Use at most 18 digits.",
            )
        self.precision, self.scale = precision, scale
        super().__init__(precision, scale)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        is_sqlite = dialect.name == "sqlite"
        return dialect.type_descriptor(
            BigInteger() if is_sqlite else Numeric(self.precision, self.scale)
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        scaled = Decimal(value).scaleb(self.scale)
        if scaled != scaled.to_integral_value():
            raise InvalidData(f"must have at most {self.scale} decimals", value=str(value))
        return int(scaled) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        return Decimal(value).scaleb(-self.scale if dialect.name == "sqlite" else 0)


class Moment(TypeDecorator[datetime]):
    """A time in UTC, of whole milliseconds; SQLite itself has no zones."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(milliseconds())
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return moment
