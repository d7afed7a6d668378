"""What the kit uses of other libraries' insides stands in one file a library, and is there."""

from __future__ import annotations

import ast
import dis
import importlib
import sys
import tomllib
from collections.abc import Iterator
from functools import cache, reduce
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import jts_storage

PACKAGE = Path(jts_storage.__file__).parent
PATHS = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ADAPTERS = [module for module in PATHS if module.endswith("_internals")]
GENERATED = "jts_storage.proto."
OTHERS = [m for m in PATHS if m not in ADAPTERS and not m.startswith(GENERATED)]
DISTRIBUTIONS = {"grpc": "grpcio", "grpc-health": "grpcio-health-checking"}

# What anybody may import of a library that has an adapter: what it documents.
DOCUMENTED = {
    "chdb": ("chdb.connect", "chdb.ChdbError"),
    "clickhouse_driver": ("clickhouse_driver.errors",),
    "clickhouse_sqlalchemy": ("clickhouse_sqlalchemy.engines", "clickhouse_sqlalchemy.types"),
    "motor": ("motor.motor_asyncio",),
}
DOCUMENTED_THOUGH_PRIVATE = {
    *("os._exit", "sys._getframe"),
    *("_replace", "_value_"),  # of named tuples and of enums
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_name_that_an_adapter_needs_is_there(adapter: str) -> None:
    needed = importlib.import_module(adapter).DEPENDS_ON
    assert needed
    missing = [
        f"{owner}.{name}"
        for owner, names in needed.items()
        for name in names
        if not _has(_found(owner), name)
    ]
    assert missing == [], f"gone from the library that {adapter} is about"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_library_whose_insides_are_used_has_an_upper_bound(adapter: str) -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    wanted = {each.name: str(each.specifier) for each in map(Requirement, texts)}
    for owner in importlib.import_module(adapter).DEPENDS_ON:
        library = owner.partition(":")[0].partition(".")[0].replace("_", "-")
        library = DISTRIBUTIONS.get(library, library)
        assert "<" in wanted[library], library


def test_only_adapters_import_what_a_library_does_not_document() -> None:
    assert {name.partition(".")[0] for name in _imports(ADAPTERS)} > DOCUMENTED.keys() - {"chdb"}
    assert [
        f"{module} imports {name}"
        for module in OTHERS
        for name in _imports([module])
        if not f"{name}.".startswith(
            tuple(f"{each}." for each in DOCUMENTED.get(name.partition(".")[0], [name]))
        )
        or (_is_foreign(name) and any(map(_is_private, name.split("."))))
    ] == []


def test_only_adapters_use_private_names_of_a_library() -> None:
    own = {name for module in OTHERS for name in _defined(_source(module))}
    assert [
        f"{module}:{node.lineno} uses {ast.unparse(node)}"
        for module in OTHERS
        for node in ast.walk(_source(module))
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own
        if not DOCUMENTED_THOUGH_PRIVATE & {node.attr, ast.unparse(node)}
    ] == []


def test_only_adapters_override_private_methods_of_a_library() -> None:
    overridden = [each for module in PATHS for each in _overridden(module)]
    assert overridden, "the rule has become idle"
    assert [each for each in overridden if each.partition(":")[0] not in ADAPTERS] == []


# Only who runs these tests reads the package: every worker collects them.
@cache
def _source(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text())


def _found(owner: str) -> Any:
    module, _, path = owner.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


def _has(owner: Any, name: str) -> bool:
    """Whether a class has an attribute, or sets it as it makes an object."""
    made = getattr(owner.__init__, "__code__", None)
    return hasattr(owner, name) or (
        made is not None
        and any(
            step.opname == "STORE_ATTR" and step.argval == name
            for step in dis.get_instructions(made)
        )
    )


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_foreign(name: str) -> bool:
    return name.partition(".")[0] not in sys.stdlib_module_names | {PACKAGE.name}


def _imports(modules: list[str]) -> Iterator[str]:
    for module in modules:
        for node in ast.walk(_source(module)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _overridden(module: str) -> Iterator[str]:
    written = {*_defined(_source(module))}  # a decorator may put more into a class
    for kind in vars(importlib.import_module(module)).values():
        if not isinstance(kind, type) or kind.__module__ != module:
            continue
        foreign = [base for base in kind.__mro__ if _is_foreign(base.__module__)]
        for name in filter(_is_private, vars(kind).keys() & written):
            yield from (
                f"{module}: {base.__name__}.{name}" for base in foreign if name in vars(base)
            )


def test_the_dialect_of_clickhouse_is_the_one_that_its_package_names() -> None:
    """It is registered, so that SQLAlchemy does not look for it in every package."""
    from sqlalchemy.dialects import registry

    (named,) = entry_points(group="sqlalchemy.dialects", name="clickhouse")
    importlib.import_module("jts_storage.clickhouse")
    assert registry.load("clickhouse") is named.load()
