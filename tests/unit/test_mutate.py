"""What `scripts/mutate.py` changes, and that it knows tests that are there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "scripts" / "mutate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module
    spec.loader.exec_module(module)
    return module


def test_every_module_and_test_of_the_map_is_there(mutate: ModuleType) -> None:
    for module, tests in mutate.TESTS.items():
        assert (ROOT / "jts_storage" / module).is_file(), module
        assert tests
        for test in tests:
            assert (ROOT / test).is_file(), test


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("x = a < b", {"x = (a <= b)"}),
        ("x = a < b < c", {"x = (a <= b < c)", "x = (a < b <= c)"}),
        ("x = a and not b", {"x = (a or not b)", "x = a and (b)"}),
        ("x = a + 1", {"x = (a - 1)", "x = a + (2)"}),
        ("x = True", {"x = (False)"}),
        ("x = 'name', 'a sentence'", {"x = ('nameXX'), 'a sentence'"}),
        ("if a: b()", {"if (not a): b()", "if a: pass"}),
        ("x = [n for n in a if n]", {"x = [n for n in a if (not n)]"}),
        ("x = a if b else c", {"x = a if (not b) else c"}),
        ("def f(): return x", {"def f(): return"}),
        ("def f(): return None", set()),
        ("async def f(): await x", {"async def f(): pass"}),
        ("raise x", {"pass"}),
        ("x += y", {"x -= y"}),
        ("while a: break", {"while (not a): break", "while a: continue"}),
        ("def f(x: 'int' = 0) -> 'int': pass", {"def f(x: 'int' = (1)) -> 'int': pass"}),
        ("x = '\u00fc'; y = 1", {"x = ('\u00fcXX'); y = 1", "x = '\u00fc'; y = (2)"}),
        ("'A docstring.'", set()),
        ("import a", set()),
        ("if TYPE_CHECKING: b()", set()),
        ("log.info('x')", set()),
        ("x = f'{a + 1}'", set()),
        ("@decorated(1)\nclass A: pass", set()),
    ],
)
def test_what_is_changed(mutate: ModuleType, source: str, changes: set[str]) -> None:
    assert {mutant.source.decode() for mutant in mutate.mutants(source.encode())} == changes


def test_a_change_is_told_with_its_place(mutate: ModuleType) -> None:
    (mutant,) = mutate.mutants(b"\n\nx = a < b\n")
    assert str(mutant) == "3: a < b  ->  (a <= b)"


def test_the_first_test_that_fails_is_told(mutate: ModuleType, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("")
    failures = mutate.Failures(told)
    for name, failed in (("a", False), ("b", True), ("c", True)):
        failures.pytest_runtest_logreport(SimpleNamespace(nodeid=name, failed=failed))
    assert told.read_text() == "b"
