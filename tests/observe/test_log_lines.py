"""Lines of the log: their fields are those of the docs, and they name no secret."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage._runtime.answers import Answers
from jts_storage._runtime.steps import of_commit
from jts_storage.observe import json_formatter
from jts_storage.testing.factories import make_candles, make_formula

ROOT = Path(__file__).parent.parent.parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
SECRETS = {"uri", "url", "dsn", "password", "secret", "token", "credentials"}
FORMATTERS = {"commit_id", "trace_id", "span_id"}


class Line:
    """A call that writes to the log, where it stands."""

    def __init__(self, path: Path, call: ast.Call, tree: ast.Module) -> None:
        self.where = f"{path.relative_to(ROOT)}:{call.lineno}"
        self._call, self._tree = call, tree

    @property
    def message(self) -> ast.expr:
        assert isinstance(self._call.func, ast.Attribute)
        return self._call.args[1 if self._call.func.attr == "log" else 0]

    @property
    def fields(self) -> set[str]:
        return {
            name
            for keyword in self._call.keywords
            if keyword.arg == "extra"
            for name in self._names(keyword.value)
        }

    @property
    def told(self) -> set[str]:
        """The last name of everything that the line is given."""
        given = [*self._call.args, *(each.value for each in self._call.keywords)]
        return {
            (each.attr if isinstance(each, ast.Attribute) else each.id).lower()
            for part in given
            for each in ast.walk(part)
            if isinstance(each, ast.Attribute | ast.Name)
        }

    def _names(self, value: ast.expr) -> Iterator[str]:
        if isinstance(value, ast.Name):
            found = [
                each.value
                for each in ast.walk(self._tree)
                if isinstance(each, ast.Assign)
                and any(isinstance(to, ast.Name) and to.id == value.id for to in each.targets)
            ]
            assert found, f"{self.where}: {value.id} is no dictionary that can be looked at"
            for each in found:
                yield from self._names(each)
        else:
            keys = [
                key for each in ast.walk(value) if isinstance(each, ast.Dict) for key in each.keys
            ]
            assert keys, f"{self.where}: its fields cannot be looked at"
            yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


def lines() -> Iterator[Line]:
    for path in sorted((ROOT / "jts_storage").rglob("*.py")):
        text = path.read_text()
        if "getLogger" not in text and "_log." not in text:
            continue
        tree = ast.parse(text)
        for each in ast.walk(tree):
            if (
                isinstance(each, ast.Call)
                and isinstance(each.func, ast.Attribute)
                and each.func.attr in LEVELS
                and re.search(r"(^|\b|_)log(ger)?$", ast.unparse(each.func.value))
            ):
                yield Line(path, each, tree)


LINES = list(lines())


def test_the_lines_are_found() -> None:
    assert len(LINES) > 90
    assert len({line.where.partition(":")[0] for line in LINES}) > 50


def test_no_line_is_given_a_secret() -> None:
    assert {line.where: line.told & SECRETS for line in LINES if line.told & SECRETS} == {}


def test_every_message_stands_in_the_code() -> None:
    """So lines of one kind have one text, and what goes into it is seen by the test above."""
    made = {
        ast.unparse(each.message) for each in LINES if not isinstance(each.message, ast.Constant)
    }
    assert made == {"notice.text"}


def test_fields_are_those_of_the_docs() -> None:
    page = (ROOT / "docs" / "how-to" / "logging.md").read_text()
    (_, _, table) = page.partition("| field | what it is |")
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table.partition("\n\n")[0], re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert set().union(*(line.fields for line in LINES)) | FORMATTERS == listed


def written(message: str) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "jts_storage", "msg": message})
    found: dict[str, object] = json.loads(json_formatter().format(record))
    return found


def test_a_line_of_a_commit_names_it() -> None:
    assert "commit_id" not in written("before")
    with of_commit("65f0"):
        assert written("within")["commit_id"] == "65f0"
    assert "commit_id" not in written("after")


def test_a_store_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(logging.getLogger("jts_storage.tests"), "MongoDB")
    for why in (None, "no answer", "refused", None, None, "no answer"):
        answers.seen(why)
    assert caplog.messages == [
        "MongoDB does not answer: no answer",
        "MongoDB answers again.",
        "MongoDB does not answer: no answer",
    ]
    assert {record.__dict__["store"] for record in caplog.records} == {"MongoDB"}


async def test_a_service_at_info_hears_nothing_of_single_calls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = SeriesKey("005930", Timeframe.D1, "KRX")
    candles = make_candles(key, 3)
    async with Storage.in_memory() as storage:
        with caplog.at_level(logging.INFO, logger="jts_storage"):
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(key, candles)
                await uow.formulas.save(make_formula())
                await uow.commit()
            await storage.candles.get_range(key, candles[0].timestamp, candles[-1].timestamp)
            await storage.formulas.list()
    assert caplog.messages == []
