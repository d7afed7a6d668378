"""The quality gate over what is stored already."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.quality import Before, QualityPolicy, Rule, judge

_EXAMPLES = 5


@dataclass(slots=True)
class ValidationResult:
    """How many candles break each rule, and the first moments that do."""

    key: SeriesKey
    rows: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[datetime]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.broken


class ValidateCandles:
    """Judges stored candles as an import judges new ones; changes nothing."""

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

    async def run(
        self,
        key: SeriesKey,
        policy: QualityPolicy | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> ValidationResult:
        policy = (policy or QualityPolicy()).of_exchange(key.exchange)
        result = ValidationResult(key)
        before = Before()
        ends = start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP
        async for block in self._storage.candles.stream(key, *ends):
            columns = block.columns
            nothing = np.zeros(len(block), np.bool_)
            verdict = judge(columns, nothing, key.timeframe, policy, before)
            result.rows += len(block)
            for rule, rows in verdict.broken.items():
                self._note(result, rule, columns.timestamp[rows])
            (before,) = verdict.after
        return result

    @staticmethod
    def _note(result: ValidationResult, rule: Rule, stamps: Any) -> None:
        name = rule.value
        result.broken[name] = result.broken.get(name, 0) + len(stamps)
        shown = result.examples.setdefault(name, [])
        room = _EXAMPLES - len(shown)
        shown += [checks.from_ms(int(ms)) for ms in stamps[:room]]
