"""Units of work over all stores, each of which was given an id, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from jts_storage import (
    Formula,
    FormulaCategory,
    SeriesKey,
    Storage,
    Timeframe,
    new_unit_id,
)
from jts_storage.errors import ConnectionFailed, StorageError
from tests.histories.scene import appended, as_text, candle, moment, row_of

Answer: TypeAlias = Literal["ok", "unknown", "failed"]

_KEY: Final = SeriesKey("PAIR", Timeframe.M1)
ORDER: Final = "pairs in order"


@dataclass(slots=True)
class Told:
    """What the caller of one commit was told."""

    number: int
    id: str
    answer: Answer
    error: str = ""


class Pairs:
    """Commits a document, a candle and checkpoints again and again, one after the other."""

    def __init__(self, ledger: str) -> None:
        self.told: list[Told] = []
        self._ledger = ledger

    @classmethod
    async def begun(cls, storage: Storage) -> Pairs:
        async with storage.unit_of_work() as uow:
            made = await uow.formulas.save(_formula(ORDER, as_text([])))
            await uow.commit()
        assert made.id is not None
        return cls(made.id)

    @property
    def answers(self) -> Counter[str]:
        return Counter(each.answer for each in self.told)

    async def commit(self, storage: Storage) -> Answer:
        told = Told(len(self.told) + 1, new_unit_id(), "failed")
        self.told.append(told)
        try:
            async with storage.unit_of_work(id=told.id) as uow:
                ledger = await uow.formulas.get_by_id(self._ledger)
                assert ledger is not None
                values = [*appended(ledger.expression), told.number]
                await uow.formulas.save(replace(ledger, expression=as_text(values)))
                await uow.formulas.save(_formula(f"pair {told.number}", as_text([told.number])))
                await uow.candles.save_many(_KEY, [candle(told.number, told.number)])
                found = await uow.ingestion.checkpoints.get(ORDER)
                before = list(found.data["appended"]) if found else []
                await uow.ingestion.checkpoints.save(ORDER, {"appended": [*before, told.number]})
                await uow.commit()
        except ConnectionFailed as error:
            told.answer, told.error = "unknown", str(error)
        except StorageError as error:
            told.error = str(error)
        else:
            told.answer = "ok"
        return told.answer

    async def problems(self, storage: Storage) -> list[str]:
        """What is not as it was told, once each unknown outcome has been asked for."""
        await storage.recover()
        outcomes = {each.number: await storage.outcome(each.id) for each in self.told}
        committed = [number for number, outcome in outcomes.items() if outcome.is_committed]
        acknowledged = [each.number for each in self.told if each.answer == "ok"]
        if lost := set(acknowledged) - set(committed):
            return [f"acknowledged, and given up: {sorted(lost)}"]
        return [
            f"{where}: {found}, committed are {committed}"
            for where, found in (await self._stored(storage)).items()
            if found != committed
        ]

    async def _stored(self, storage: Storage) -> dict[str, list[int]]:
        """The numbers that each store has, in the order that it tells."""
        ledger = await storage.formulas.get_by_id(self._ledger)
        checkpoint = await storage.ingestion.checkpoints.get(ORDER)
        rows = await storage.candles.get_range(_KEY, moment(0), moment(1_000_000))
        tagged = await storage.formulas.get_by_tag(ORDER)
        single = [appended(formula.expression) for formula in tagged if formula.id != self._ledger]
        return {
            "the document": appended(ledger.expression if ledger else None),
            "the documents": sorted(number for numbers in single for number in numbers),
            "the checkpoint": list(checkpoint.data["appended"]) if checkpoint else [],
            "the candles": [row_of(at) for at in rows.columns.timestamp.tolist()],
        }


def _formula(name: str, expression: str) -> Formula:
    return Formula(name=name, expression=expression, category=FormulaCategory.ENTRY, tags=(ORDER,))
