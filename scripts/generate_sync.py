"""Write `jts_storage/sync/repositories.py`: the blocking twin of every port.

``python scripts/generate_sync.py`` writes the file; with ``--check`` it only compares, whole text
against whole text, and fails when they differ.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PORTS = ROOT / "jts_storage" / "ports"
TARGET = ROOT / "jts_storage" / "sync" / "repositories.py"
ORDER = ("events", "candles", "symbols", "formulas", "strategies", "backtests", "ingestion")
WITHOUT_TWIN = {
    "EventPublisher",
    "Lake",
    "LakeFile",
}  # handlers are registered on it as it is; see Storage.events

HEADER = '''"""The blocking twins of the ports, generated from them by scripts/generate_sync.py."""

from __future__ import annotations

{imports}

from jts_storage import ports
from jts_storage.sync.portal import Portal
{local}
'''
SKIPPED_IMPORTS = {"typing", "__future__", "TYPE_CHECKING"}


def main() -> int:
    text = formatted(generated())
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text() != text:
            sys.stderr.write(f"{TARGET.name} is not what the ports say: run `make sync`.\n")
            return 1
        return 0
    TARGET.write_text(text)
    return 0


def generated() -> str:
    imports: set[str] = set()
    classes: list[str] = []
    for name in (*ORDER, "unit_of_work"):
        module = ast.parse((PORTS / f"{name}.py").read_text())
        imports |= imported(module, name)
        classes += [twin(node) for node in module.body if is_port(node)]
    body = "\n\n".join(classes)
    header = HEADER.format(
        imports="\n".join(sorted(line for line in imports if "jts_storage" not in line)),
        local="\n".join(sorted(line for line in imports if "jts_storage" in line)),
    )
    return f"{header}\n\n{body}\n"


def formatted(text: str) -> str:
    for command in (["check", "--select", "I,F401", "--fix", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return text


def imported(module: ast.Module, source: str) -> set[str]:
    """Every import of a port's module that its signatures may need, but those of other ports."""
    lines = {"from collections.abc import Iterator", "from typing import Any, Self"}
    for node in module.body:
        if not isinstance(node, ast.ImportFrom) or node.module in SKIPPED_IMPORTS:
            continue
        for alias in node.names:
            if alias.name in {"AsyncIterator", "Awaitable"} or is_twin_name(alias.name):
                continue
            lines.add(f"from {node.module} import {alias.name}")
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines.add(f"from jts_storage.ports.{source} import {node.target.id}")
        if isinstance(node, ast.ClassDef) and node.name in WITHOUT_TWIN:
            lines.add(f"from jts_storage.ports.{source} import {node.name}")
    return lines


def is_twin_name(name: str) -> bool:
    return name.endswith(("Reader", "Repository", "Store", "Collector")) or name == "UnitOfWork"


def is_port(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
        and node.name not in WITHOUT_TWIN
    )


def twin(node: ast.stmt) -> str:
    assert isinstance(node, ast.ClassDef)
    bases = [b.id for b in node.bases if isinstance(b, ast.Name) and b.id != "Protocol"]
    inherited = f"({', '.join(bases)})" if bases else ""
    lines = [
        f"class {node.name}{inherited}:",
        f'    """{ast.get_docstring(node, clean=False)}"""',
        "",
    ]
    lines += [f"    _twin: ports.{node.name}", ""]
    lines += [f"    def __init__(self, portal: Portal, twin: ports.{node.name}) -> None:"]
    if bases:
        lines += ["        super().__init__(portal, twin)", "        self._twin = twin", ""]
    else:
        lines += ["        self._portal = portal", "        self._twin = twin", ""]
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            lines += [*method(member), ""]
    return "\n".join(lines)


def method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    docstring = ast.get_docstring(node, clean=False)
    name = node.name.replace("__a", "__", 1) if node.name.startswith("__a") else node.name
    returns = ast.unparse(node.returns) if node.returns else "None"
    lines = ["    @property"] if is_property(node) else []
    result = returns.replace("AsyncIterator[", "Iterator[")
    lines += [f"    def {name}({ast.unparse(node.args)}) -> {result}:"]
    if docstring:
        lines += [f'        """{docstring}"""']
    return [*lines, f"        {call(node, returns)}"]


def call(node: ast.FunctionDef | ast.AsyncFunctionDef, returns: str) -> str:
    asked = f"self._twin.{node.name}"
    if is_property(node):
        return f"return {returns}(self._portal, {asked})"
    asked += f"({', '.join(arguments(node.args))})"
    if returns == "Self":
        return f"self._portal.call({asked})\n        return self"
    if isinstance(node, ast.AsyncFunctionDef):
        statement = f"self._portal.call({asked})"
    elif returns.startswith("AsyncIterator["):
        statement = f"self._portal.iterate({asked})"
    else:
        statement = asked
    return statement if returns == "None" else f"return {statement}"


def arguments(signature: ast.arguments) -> list[str]:
    positional = [a.arg for a in (*signature.posonlyargs, *signature.args) if a.arg != "self"]
    return [*positional, *(f"{a.arg}={a.arg}" for a in signature.kwonlyargs)]


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)


if __name__ == "__main__":
    raise SystemExit(main())
