"""Print the size and shape of the package: ``python scripts/measure_code.py [FOLDER ...]``.

Each folder is a `jts_storage/`; with several, their figures stand side by side. What is generated
(in `sync/`, `remote/` and `proto/`) and what ships for tests (`testing/`) is left out.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

GENERATED = (
    "sync/repositories.py",
    "sync/usecases.py",
    "sync/backup.py",
    "remote/repositories.py",
    "remote/methods.py",
    "proto/",
)
LEFT_OUT = ("testing/", *GENERATED)
LONG_FILE, LONG_FUNCTION = 400, 40
DUPLICATE_LINES = 6
"""So many lines in a row, the same but for blanks, are a duplicate. Imports do not count."""

TOO_COMMON = 8
"""Lines that stand in more places than this are boilerplate."""


@dataclass(frozen=True)
class Source:
    """A file of the package: its name within it, its lines and its tree."""

    name: str
    lines: list[str]
    tree: ast.Module

    @property
    def part(self) -> str:
        return self.name.partition("/")[0].removesuffix(".py")


def sources(package: Path, *, left_out: tuple[str, ...] = LEFT_OUT) -> list[Source]:
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(left_out):
            text = path.read_text()
            found.append(Source(name, text.splitlines(), ast.parse(text)))
    return found


def function_lengths(files: list[Source]) -> list[int]:
    """Lines of each function's body, its docstring left out."""
    return [
        (node.end_lineno or 0) - _first_line(node) + 1
        for file in files
        for node in ast.walk(file.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _first_line(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    has_more = len(body) > 1 and ast.get_docstring(function) is not None
    return body[1 if has_more else 0].lineno


def arrows(files: list[Source]) -> set[tuple[str, str]]:
    """Which part imports which other part."""
    found = set()
    for file in files:
        for node in ast.walk(file.tree):
            for module in _imported(node):
                top, _, rest = module.partition(".")
                part = rest.partition(".")[0]
                if top == "jts_storage" and part and part != file.part:
                    found.add((file.part, part))
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "jts_storage":
        return [f"jts_storage.{alias.name}" for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module]
    return []


def duplicates(files: list[Source], *, signatures: bool = True) -> set[tuple[str, str]]:
    """Pairs of files that share a run of lines.

    :param signatures: count those of functions, too, which whoever implements a port repeats.
    """
    places: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in files:
        for run in _runs(file, signatures=signatures):
            places[run].add(file.name)
    return {
        pair
        for names in places.values()
        if 1 < len(names) <= TOO_COMMON
        for pair in combinations(sorted(names), 2)
    }


def _runs(file: Source, *, signatures: bool) -> Iterator[tuple[str, ...]]:
    left_out = {
        line for node in ast.walk(file.tree) for line in _not_compared(node, signatures=signatures)
    }
    lines = [line.strip() for n, line in enumerate(file.lines, start=1) if n not in left_out]
    kept = [line for line in lines if line and not line.startswith("#")]
    for start in range(len(kept) - DUPLICATE_LINES + 1):
        yield tuple(kept[start : start + DUPLICATE_LINES])


def _not_compared(node: ast.AST, *, signatures: bool) -> range:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return range(node.lineno, (node.end_lineno or 0) + 1)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not signatures:
        return range(node.lineno, max(node.lineno + 1, node.body[0].lineno))
    return range(0)


def figures(package: Path) -> dict[str, str]:
    files = sources(package)
    lengths = [len(file.lines) for file in files]
    functions = function_lengths(files)
    text = "\n".join("\n".join(file.lines) for file in files)
    largest = max(files, key=lambda file: len(file.lines))
    parts = {file.part for file in files if "/" in file.name}
    return {
        "lines": str(sum(lengths)),
        "files": str(len(files)),
        "median file": f"{statistics.median(lengths):.0f}",
        "largest file": f"{max(lengths)} ({largest.name})",
        f"files > {LONG_FILE}": str(sum(length > LONG_FILE for length in lengths)),
        f"functions > {LONG_FUNCTION}": str(sum(length > LONG_FUNCTION for length in functions)),
        "longest function": str(max(functions, default=0)),
        "modules at the top": str(sum("/" not in file.name for file in files)),
        "packages": str(len(parts)),
        "arrows between parts": str(len(arrows(files))),
        "pairs with duplicates": str(len(duplicates(files))),
        "of these beyond signatures": str(len(duplicates(files, signatures=False))),
        "type: ignore": str(text.count("# type: ignore")),
        "Any": str(_uses_of_any(files)),
    }


def _uses_of_any(files: list[Source]) -> int:
    return sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for file in files
        for node in ast.walk(file.tree)
    )


def package(text: str) -> Path:
    path = Path(text)
    if not sources(path):
        raise argparse.ArgumentTypeError(f"{text} is no folder with Python files")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the size and shape of the package.")
    own = Path(__file__).parents[1] / "jts_storage"
    parser.add_argument("folder", nargs="*", type=package, default=[own], help="a jts_storage/")
    packages = parser.parse_args().folder
    columns = [figures(package) for package in packages]
    for name in columns[0]:
        print(f"{name:24}", *(f"{column[name]:>32}" for column in columns))


if __name__ == "__main__":
    main()
