"""How an import reads a source, and what it does with the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jts_storage.domain import checks
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import VolumeRule
from jts_storage.readers.file_source import Layout
from jts_storage.readers.numbers import check_thousands, given_style
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.readers.values import FloatRule
from jts_storage.usecases.any_storage import BLOCK_ROWS
from jts_storage.usecases.quality import QualityPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to read a source and what to do with its rows.

    :param mode: ``"full"`` stores every row, ``"incremental"`` only rows whose timestamps were not
        stored when the import began, wherever they stand.
    :param create: the market of symbols that are not known yet; None refuses them.
    :param layout: what is known of the source better than a guess.
    :param timezone: of moments that have none; if it is not given, such moments are refused.
    :param time_format: a strptime format, where moments are not ISO 8601.
    :param time_unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``, where moments are numbers since 1970
        whose size does not show their unit.
    :param decimal: the decimal mark, where the numbers do not show it.
    :param thousands: the mark between thousands, where the numbers do not show it; a point or a
        comma implies the decimal mark.
    :param floats: what to do with prices that are floats: ``"exact"`` takes the nearest floats to
        prices of four decimals, ``"round"`` rounds to four decimals, otherwise they are refused.
    :param round_prices: whether prices of more than four decimals are rounded (half to even); they
        are refused otherwise, and floats too unless `floats` says more.
    :param volume: what becomes of volumes that are no whole numbers: ``"round"``, ``"floor"`` or
        ``"scale:N"``, which stores them times 10**N; and ``"zero-if-missing"``. Several are
        separated by commas; by default they are refused.
    :param on_error: ``"quarantine"`` keeps rows that cannot be read aside, with their line and
        reason; ``"stop"`` refuses the first.
    :param block_rows: how many rows are stored at a time.
    :param resume: whether to go on where an interrupted import of the same source stopped.
    """

    mode: Literal["full", "incremental"] = "full"
    create: Market | None = None
    layout: Layout = field(default_factory=Layout)
    timezone: str | None = None
    time_format: str | None = None
    time_unit: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    floats: FloatRule = "refuse"
    round_prices: bool = False
    volume: str | None = None
    on_error: Literal["stop", "quarantine"] = "stop"
    policy: QualityPolicy = field(default_factory=QualityPolicy)
    block_rows: int = BLOCK_ROWS
    resume: bool = True

    def __post_init__(self) -> None:
        checks.whole(self.block_rows, "block_rows", least=1, below=1_000_001)
        if self.mode not in ("full", "incremental"):
            raise InvalidData("must be full or incremental", field="mode", value=self.mode)
        if self.floats not in ("refuse", "exact", "round"):
            raise InvalidData("must be refuse, exact or round", field="floats", value=self.floats)
        TimestampReader(Timeframe.M1, self.timezone, self.time_format, self.time_unit)
        check_thousands(self.thousands)
        given_style(self.decimal, self.thousands)
        VolumeRule.of(self.volume)
        if self.on_error not in ("stop", "quarantine"):
            raise InvalidData("must be stop or quarantine", field="on_error", value=self.on_error)

    @property
    def is_incremental(self) -> bool:
        return self.mode == "incremental"

    def described(self) -> dict[str, Any]:
        """Return what must be the same for an interrupted import to go on."""
        policy = self.policy
        marks = [self.decimal] if self.thousands is None else [self.decimal, self.thousands]
        rounding: list[Any] = (
            [self.round_prices, self.volume] if self.round_prices or self.volume else []
        )
        if self.time_unit is not None:
            rounding.append(self.time_unit)
        if self.on_error != "stop":
            rounding.append(self.on_error)
        layout = self.layout
        # Only what is given: states of earlier releases keep their names.
        given: dict[str, Any] = {
            name: value
            for name, value in (("delimiter", layout.delimiter), ("encoding", layout.encoding))
            if value is not None
        }
        if not layout.header:
            given["header"] = False
        if layout.skip_lines:
            given["skip_lines"] = layout.skip_lines
        return given | {
            "mode": self.mode,
            "columns": dict(layout.columns),
            "reading": [self.timezone, self.time_format, *marks, self.floats, *rounding],
            "policy": {rule.value: action.value for rule, action in policy.actions.items()},
            "bounds": [str(policy.jump), str(policy.tick), str(policy.calendar)],
            "block_rows": self.block_rows,
        }
