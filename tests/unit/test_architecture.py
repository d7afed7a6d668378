"""Dependencies point inwards, importing is cheap, and only settings read the environment."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import FunctionType

import pytest

import jts_storage

PACKAGE = Path(jts_storage.__file__).parent
CORE = frozenset({"errors", "domain", "ports", "_runtime"})
EVERYTHING = None

# Which parts of ours a part may import, beside itself. A dotted entry is that module, or room,
# alone.
MAY_IMPORT: dict[str, frozenset[str] | None] = {
    "_version": frozenset(),
    "errors": frozenset(),
    "_runtime": frozenset({"errors"}),
    "domain": frozenset({"errors"}),
    "ports": frozenset({"domain"}),
    "readers": CORE,
    "usecases": CORE | {"readers"},
    "settings": frozenset({"errors", "domain", "_runtime.imports"}),
    "models": CORE,
    "clickhouse": CORE | {"loading_internals", "settings", "models"},
    "mongo": CORE | {"settings", "models"},
    "relational": CORE | {"settings", "models"},
    "lake": CORE,
    "redis": CORE | {"settings"},
    "local_servers": CORE,
    # The twin has the real unit of work, and keeps what the mappers of the real stores make.
    "memory": CORE
    | {"models", "unit_of_work.staged", "unit_of_work.unit", "unit_of_work.publisher"}
    | {"unit_of_work.subscription"}
    | {"clickhouse.symbol_model", "relational.mappers"}
    | {"mongo.documents", "mongo.mappers", "mongo.model", "mongo.saves", "mongo.stored"}
    | {"mongo.trades", "readable"},
    "unit_of_work": CORE | {"models", "clickhouse", "mongo", "relational"},
    "readable": CORE | {"unit_of_work", "usecases"},
    "proto": frozenset(),
    # A client stages as a unit of work here does; a gateway serves what a backend gives it.
    "remote": CORE
    | {"_version", "migrate", "models", "proto", "readable", "settings", "unit_of_work"}
    | {
        "clickhouse.questions",
        "clickhouse.symbol_model",
        "mongo.mappers",
        "mongo.model",
        "mongo.stored",
    },
    "backup": EVERYTHING,
    "cache": EVERYTHING,
    # It runs servers and asks whether they are well; the stores themselves it does not open.
    "services": CORE
    | {"_version", "local_servers", "settings"}
    | {"clickhouse.config", "clickhouse.connector", "clickhouse.errors"},
    # It sees what is public, and what the stores say of themselves.
    "observe": CORE
    | {"_version", "readable", "migrate"}
    | {"clickhouse.cache", "clickhouse.manager", "clickhouse.tables", "clickhouse.usage"}
    | {"mongo.leases", "mongo.manager", "relational.manager"}
    | {"unit_of_work.clock", "unit_of_work.publisher"},
    "backend": EVERYTHING,
    "loading": CORE | {"clickhouse", "loading_internals", "settings"},
    "loading_internals": frozenset(),
    "composition": EVERYTHING,
    "limiting": EVERYTHING,
    "sharing": EVERYTHING,
    "storage": EVERYTHING,
    "reading": EVERYTHING,
    "migrate": EVERYTHING,
    "sync": EVERYTHING,
    "testing": EVERYTHING,
    "cli": EVERYTHING,
    "": EVERYTHING,
}
OUTERMOST = frozenset({"sync", "testing", "cli", "backup"})
MAY_IMPORT_OUTERMOST: dict[str, frozenset[str]] = {
    "cli": OUTERMOST,
    "testing": OUTERMOST,
    "sync": frozenset({"backup"}),
}

# Functions outside settings that look at the environment: to hand it on to a child process, to set
# what a library reads as it is imported, and to say what another shell would lack.
MAY_READ_ENVIRONMENT = frozenset(
    {
        ("local_servers.postgres", "_run"),
        ("local_servers.keeper", "_spawn"),
        ("clickhouse.import_internals", "_dates_when_used"),
        ("cli.backup", "_only_in_this_shell"),
    }
)

FRAME_LIBRARIES = frozenset({"pyarrow", "pandas", "polars"})
DOMAIN_MAY_LOAD_LATE = {
    "domain.arrow": frozenset({"pyarrow"}),
    "domain.decimal_text": frozenset({"pyarrow"}),
    "domain.interchange": FRAME_LIBRARIES,
    "domain.panel": FRAME_LIBRARIES,
    "domain.panel_frames": FRAME_LIBRARIES,
    "domain.plot": frozenset({"matplotlib"}),
    "domain.calendar": frozenset({"exchange_calendars", "pandas"}),
}

HEAVY = {
    "aiosqlite",
    "alembic",
    "asyncpg",
    "beanie",
    "bson",
    "chdb",
    "clickhouse_driver",
    "clickhouse_sqlalchemy",
    "cryptography",
    "dotenv",
    "exchange_calendars",
    "google",
    "grpc",
    "matplotlib",
    "motor",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic",
    "pymongo",
    "redis",
    "sqlalchemy",
    "tenacity",
    "typer",
}


@dataclass(frozen=True)
class Import:
    """One name of `module` imported by `source`, both dotted and, if ours, without the package."""

    source: str
    module: str
    line: int
    ours: bool
    late: bool
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.module}"

    @property
    def part(self) -> str:
        return self.source.partition(".")[0]


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports_of(path: Path, tree: ast.AST) -> Iterator[Import]:
    def visit(node: ast.AST, late: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            late_here = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            types_here = for_types or (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            )
            for name in _names_of(child, path):
                top, _, rest = name.partition(".")
                ours = top == PACKAGE.name
                yield Import(
                    _module_name(path),
                    rest if ours else name,
                    getattr(child, "lineno", 0),
                    ours,
                    late_here,
                    types_here,
                )
            yield from visit(child, late_here, types_here)

    yield from visit(tree, late=False, for_types=False)


def _names_of(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path}:{node.lineno} imports relatively"
        assert node.module is not None
        return [_submodule(node.module, alias.name) for alias in node.names]
    return []


def _submodule(module: str, name: str) -> str:
    """`from jts_storage.relational import mappers` names a module, most others a thing in one."""
    inside = PACKAGE.parent.joinpath(*module.split("."), name)
    is_module = inside.is_dir() or inside.with_suffix(".py").exists()
    return f"{module}.{name}" if is_module else module


# Only who runs these tests reads the package: every worker collects them.
@cache
def _sources() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _all_imports() -> list[Import]:
    return [found for path, tree in _sources().items() for found in _imports_of(path, tree)]


def _is_allowed(found: Import) -> bool:
    target = found.module.partition(".")[0]
    if target == found.part:
        return True
    if target in OUTERMOST and found.part:
        return target in MAY_IMPORT_OUTERMOST.get(found.part, frozenset())
    allowed = MAY_IMPORT[found.part]
    if allowed is EVERYTHING or target in allowed or found.module in allowed:
        return True
    return any(found.module.startswith(f"{room}.") for room in allowed)


def test_the_map_shows_the_imports_and_no_circle() -> None:
    script = PACKAGE.parent / "scripts" / "draw_map.py"
    drawn = subprocess.run([sys.executable, str(script), "--check"], timeout=60, check=False)
    assert drawn.returncode == 0, "run `python scripts/draw_map.py`"


def test_every_part_has_its_place_in_the_table() -> None:
    parts = {_module_name(path).partition(".")[0] for path in _sources()}
    assert parts - MAY_IMPORT.keys() == set(), "say in MAY_IMPORT what the new part may know"


def test_dependencies_point_inwards() -> None:
    known = [found for found in _all_imports() if found.ours and found.part in MAY_IMPORT]
    assert known, "no import was found at all"
    assert [str(found) for found in known if not _is_allowed(found)] == []


def test_the_domain_needs_the_standard_library_and_numpy_only() -> None:
    foreign = [
        found
        for found in _all_imports()
        if found.part in {"domain", "errors", "ports"}
        and not found.ours
        and not found.for_types_only
        and found.module.partition(".")[0] not in sys.stdlib_module_names | {"numpy"}
    ]
    assert any(found.late for found in foreign), "the rule for late imports has become idle"
    refused = [
        str(found)
        for found in foreign
        if not found.late
        or found.module.partition(".")[0] not in DOMAIN_MAY_LOAD_LATE.get(found.source, frozenset())
    ]
    assert refused == []


def test_ports_name_no_driver_even_for_types() -> None:
    foreign = [
        str(found)
        for found in _all_imports()
        if found.part == "ports"
        and not found.ours
        and found.module.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert foreign == []


def test_importing_the_package_loads_no_driver() -> None:
    # In a fresh interpreter: in this one the tests have long imported everything.
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, jts_storage; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    ).stdout.split()
    assert "jts_storage" in listing
    assert sorted(HEAVY & {name.partition(".")[0] for name in listing}) == []


def test_importing_the_settings_loads_pydantic_at_most() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, jts_storage.settings; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    ).stdout.split()
    assert sorted(HEAVY & {name.partition(".")[0] for name in listing}) == ["pydantic"]


def test_importing_what_opens_stores_loads_no_driver() -> None:
    """They are imported while mongod starts."""
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, jts_storage.backend; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    ).stdout.split()
    assert HEAVY & {name.partition(".")[0] for name in listing} <= {"numpy", "pydantic"}


def test_importing_the_domain_loads_numpy_at_most() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, jts_storage.domain.series; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert sorted(HEAVY & {name.partition(".")[0] for name in listing}) == ["numpy"]


@pytest.mark.parametrize("name", [n for n in jts_storage.__all__ if not n.startswith("__")])
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(jts_storage, name)
    if isinstance(thing, type) and issubclass(thing, Enum) and not _has_methods(thing):
        return  # its values say it all
    own = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    assert own, f"{name} has no docstring of its own"
    # What a dataclass or an enum writes by itself is no contract.
    assert not own.startswith(f"{name}("), f"{name} has only a generated docstring"


def _has_methods(kind: type) -> bool:
    return any(
        isinstance(member, FunctionType | property) and not name.startswith("_")
        for name, member in vars(kind).items()
    )


def _reads_environment(tree: ast.AST) -> Iterator[tuple[int, str | None]]:
    """Where `os.environ` or `os.getenv` stands, and in which function."""

    def visit(node: ast.AST, function: str | None) -> Iterator[tuple[int, str | None]]:
        for child in ast.iter_child_nodes(node):
            inside = (
                child.name
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                else function
            )
            if isinstance(child, ast.Attribute) and ast.unparse(child) in {
                "os.environ",
                "os.getenv",
                "os.environb",
            }:
                yield child.lineno, inside
            if isinstance(child, ast.ImportFrom) and child.module == "os":
                yield from (
                    (child.lineno, inside) for a in child.names if a.name in {"environ", "getenv"}
                )
            yield from visit(child, inside)

    return visit(tree, None)


def test_only_settings_read_the_environment() -> None:
    readers = []
    for path, tree in _sources().items():
        module = _module_name(path)
        if module.partition(".")[0] == "settings":
            continue
        for line, function in _reads_environment(tree):
            if (module, function) not in MAY_READ_ENVIRONMENT:
                readers.append(f"{module}:{line} in {function}")
    assert readers == []
