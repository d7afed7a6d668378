"""Change one thing in a module at a time, and list the changes that its tests do not notice.

``python scripts/mutate.py relational/pool.py`` tries every change of one module, ``--most 60`` that
many of them at random, the same each time. Without a module it names those it knows tests for.
Nothing in the working tree is touched: tests run in a copy, the module's own first to last until
one fails, and which one is told. What survives is a test that is missing, or a change that makes
no difference.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("jts_storage", "tests", "migrations", "docs", "pyproject.toml", "README.md")
SEED = 14

_MEMORY = ("tests/contract/test_memory_contracts.py",)
_WORK = "tests/integration/unit_of_work"
_CLOCK = f"{_WORK}/test_commit_clock.py"
_DECISIONS = f"{_WORK}/test_decisions.py"
_DELIVERY = f"{_WORK}/test_delivery.py"
_JOURNAL = f"{_WORK}/test_journal.py"
_ORDER = f"{_WORK}/test_order_of_commits.py"
_EVENTS = f"{_WORK}/test_order_of_events.py"
_SYMBOLS = f"{_WORK}/test_order_of_symbols.py"
_STEPS = f"{_WORK}/test_steps_of_commits.py"
_STAGED = "tests/unit/staged"
_UNDER_WAY = "tests/unit/unit_of_work/test_commits_under_way.py"

TESTS: dict[str, tuple[str, ...]] = {
    "errors.py": ("tests/unit/test_errors.py",),
    "clickhouse/errors.py": ("tests/unit/clickhouse/test_clickhouse_errors.py",),
    "clickhouse/candle_mappers.py": (
        "tests/unit/clickhouse_repositories/test_clickhouse_mappers.py",
        "tests/unit/clickhouse_repositories/test_series_from_end.py",
    ),
    "clickhouse/symbol_model.py": (
        "tests/unit/clickhouse_repositories/test_clickhouse_mappers.py",
    ),
    "mongo/errors.py": ("tests/unit/mongo/test_mongo_errors.py",),
    "relational/errors.py": ("tests/unit/relational/test_relational_errors.py",),
    "relational/mappers.py": ("tests/unit/relational/test_relational_mappers.py",),
    "relational/pool.py": ("tests/unit/relational/test_pool.py",),
    "mongo/leases.py": (f"{_WORK}/test_leases.py", _DELIVERY),
    "unit_of_work/clock.py": (_CLOCK, _ORDER, _SYMBOLS),
    "unit_of_work/staged/bookkeeping.py": (f"{_STAGED}/test_staged_bookkeeping.py", *_MEMORY),
    "unit_of_work/staged/candles.py": (f"{_STAGED}/test_staged_candles.py", *_MEMORY),
    "unit_of_work/staged/events.py": ("tests/unit/unit_of_work/test_collected_events.py", *_MEMORY),
    "_runtime/lifetime.py": _MEMORY,
    "unit_of_work/staged/pages.py": (f"{_STAGED}/test_staged_pages.py", *_MEMORY),
    "unit_of_work/staged/tables.py": (f"{_STAGED}/test_staged_symbols.py", *_MEMORY),
    "unit_of_work/journal_format.py": ("tests/unit/unit_of_work/test_journal_format.py",),
    "unit_of_work/outbox.py": (f"{_WORK}/test_outbox.py", _DELIVERY),
    "unit_of_work/delivery.py": (_DELIVERY, _EVENTS),
    "unit_of_work/journal.py": (_JOURNAL, _ORDER),
    "unit_of_work/participants.py": (_UNDER_WAY, _STEPS, _ORDER, _SYMBOLS),
    "unit_of_work/recovery.py": (_STEPS, f"{_WORK}/test_recovery.py"),
    "unit_of_work/stored.py": (_STEPS, _ORDER),
    "unit_of_work/commit.py": (_STEPS, _DECISIONS),
    "unit_of_work/unit.py": (_STEPS, f"{_WORK}/test_repetition.py"),
}
"""Which tests belong to a module, quickest first."""

_HEAVY = (
    "numpy",
    "pyarrow.parquet",
    "pandas",
    "pydantic",
    "sqlalchemy.ext.asyncio",
    "aiosqlite",
    "asyncpg",
    "beanie",
    "clickhouse_driver",
    "tenacity",
    "filelock",
    "pytest",
    "pytest_asyncio",
    "hypothesis",
    "hypothesis.strategies",
)
"""Imported once, and not again by each of the many runs. Nothing of these starts a thread."""

_PAIRS: tuple[tuple[type[ast.AST], type[ast.AST]], ...] = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.FloorDiv),
    (ast.BitOr, ast.BitAnd),
    (ast.LShift, ast.RShift),
)
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    **dict(_PAIRS),
    **{one: other for other, one in _PAIRS},
}
_OPTIONS = (
    *("-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of what is imported already
)
_LOGS = ("log", "_log")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change in it."""

    line: int
    was: str
    becomes: str
    source: bytes

    def __str__(self) -> str:
        return f"{self.line}: {self.was}  ->  {self.becomes}"


def mutants(source: bytes) -> Iterator[Mutant]:
    """Every change that is tried of a module, in the order of the text."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, replacement in _changes(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text = ast.unparse(replacement)
        if isinstance(replacement, ast.expr):
            text = f"({text})"
        was = source[begin:end].decode()
        if text != was:
            changed = source[:begin] + text.encode() + source[end:]
            yield Mutant(node.lineno, _short(was), _short(text), changed)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else f"{line[:67]}..."


Place = ast.expr | ast.stmt


def _changes(node: ast.AST) -> Iterator[tuple[Place, Place]]:
    if _is_passed_over(node):
        return
    if isinstance(node, ast.expr | ast.stmt):
        for replacement in _replacements(node):
            yield node, replacement
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.comprehension):
        for test in node.ifs if isinstance(node, ast.comprehension) else [node.test]:
            if not isinstance(test, ast.Compare | ast.UnaryOp):  # which are turned round anyway
                yield test, ast.UnaryOp(ast.Not(), test)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child)


def _is_passed_over(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True  # texts for people, and what mypy sees
        case ast.Expr(value=ast.Constant()):
            return True  # a docstring
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _LOGS
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            return True
        case _:
            return False


def _replacements(node: Place) -> Iterator[Place]:
    match node:
        case ast.Compare(left, operators, others):
            for n, operator in enumerate(operators):
                changed = [*operators[:n], _OPERATORS[type(operator)](), *operators[n + 1 :]]
                yield ast.Compare(left, changed, others)  # type: ignore[arg-type]
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(_OPERATORS[type(operator)](), values)  # type: ignore[arg-type]
        case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(operator)](), right)  # type: ignore[arg-type]
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(str(value)) if value and " " not in value:
            yield ast.Constant(f"{value}XX")
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield ast.Return(None)
        case ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.AugAssign(target, operator, value) if type(operator) in _OPERATORS:
            yield ast.AugAssign(target, _OPERATORS[type(operator)](), value)  # type: ignore[arg-type]
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case _:
            pass


class Trial:
    """A copy of the project, in which tests run on a module that is changed."""

    def __init__(self, folder: Path, module: str) -> None:
        for name in COPIED:
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        self._folder = folder
        self._module = folder / "jts_storage" / module
        self._told = folder / "first failure"
        self._tests = TESTS[module]
        self.limit = 600.0

    def failure(self, source: bytes, *, quietly: bool = True) -> str | None:
        """Return which test fails first with this as the module; None if all pass in time."""
        self._module.write_bytes(source)
        self._told.write_text("")
        child = os.fork()
        if child == 0:
            self._run(quietly)
        code = _exit_code(child, self.limit)
        if code is None:
            return "taking too long"
        return (self._told.read_text() or f"pytest ending with {code}") if code else None

    def _run(self, quietly: bool) -> None:
        """Run pytest in this process, which ends with it."""
        code = 70
        try:
            os.setsid()
            os.chdir(self._folder)
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2) if quietly else (0,):
                os.dup2(silence, stream)
            import pytest

            code = int(pytest.main([*_OPTIONS, *self._tests], plugins=[Failures(self._told)]))
        finally:
            os._exit(code)


class Failures:
    """A plugin of pytest that writes down which test failed first."""

    def __init__(self, told: Path) -> None:
        self._told = told

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._told.read_text():
            self._told.write_text(report.nodeid)


def _exit_code(child: int, limit: float) -> int | None:
    give_up = time.monotonic() + limit
    while time.monotonic() < give_up:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def survivors(module: str, most: int | None) -> tuple[int, list[Mutant]]:
    """How many changes of a module were tried, and those that its tests did not notice."""
    original = (ROOT / "jts_storage" / module).read_bytes()
    tried = list(mutants(original))
    if most is not None and most < len(tried):
        chosen = sorted(random.Random(SEED).sample(range(len(tried)), most))
        tried = [tried[n] for n in chosen]
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        trial = Trial(Path(folder), module)
        begun = time.monotonic()
        if trial.failure(original, quietly=False):
            raise SystemExit(f"The tests of {module} fail as it is.")
        trial.limit = 10 + 2 * (time.monotonic() - begun)
        left = []
        for mutant in tried:
            failure = trial.failure(mutant.source)
            if failure is None:
                left.append(mutant)
            fate = "survived" if failure is None else f"killed by {failure}"
            print(f"{module}:{mutant}  {fate}", flush=True)
    return len(tried), left


def prepare() -> None:
    """See that tests, and processes that they start, import the copy, and nothing stale of it."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTHONPATH"] = "."
    sys.path[0] = ""
    for name in _HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", choices=[*TESTS, []])
    parser.add_argument("--most", type=int, help="so many changes of a module, chosen at random")
    arguments = parser.parse_args()
    if not arguments.modules:
        print("\n".join(TESTS))
        return 0
    prepare()
    for module in arguments.modules:
        tried, left = survivors(module, arguments.most)
        killed = tried - len(left)
        print(f"{module}: killed {killed} of {tried} ({killed / max(tried, 1):.1%})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
