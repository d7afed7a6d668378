"""What tests patch by name is there: those that run by night would find out late."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
PACKAGE = "jts_storage."


def test_every_name_that_is_patched_is_there() -> None:
    found = [(path, name) for path in TESTS.rglob("*.py") for name in patched(path)]
    assert len(found) > 200, "they are written in another way now"
    assert [f"{path.name}: {name}" for path, name in found if not is_there(name)] == []


def patched(path: Path) -> Iterator[str]:
    """The names that a file gives to `setattr`, as ``"jts_storage.a.b"`` or ``b`` of a module."""
    tree = ast.parse(path.read_text())
    imported = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        for name in node.names
    }
    for node in ast.walk(tree):  # what is assigned anywhere may be something else
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            imported.pop(node.id, None)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[first, second, *_]):
                match first, second:
                    case ast.Constant(value=str(whole)), _ if whole.startswith(PACKAGE):
                        yield whole
                    case ast.Name(id=of), ast.Constant(value=str(name)) if of in imported:
                        yield f"{imported[of]}.{name}"


def is_there(name: str) -> bool:
    *parts, last = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return hasattr(found, last)
    return False
