"""Executes the Python blocks of Markdown pages, as a reader would type them into one session.

Blocks of a page share their names and one event loop; top-level `await` works. Tracebacks name
the page and its own line numbers. A block that is preceded by ``<!-- not executed: why -->`` is
left out. One with ``title="a/file.py"`` is written to that file.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from collections.abc import Iterator
from inspect import CO_COROUTINE
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<file>[^\"\n]+)\")?[^\n]*\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_LEFT_OUT = re.compile(r"<!-- not executed: [^>]+ -->\s*\Z")


class Block(NamedTuple):
    language: str
    line: int
    code: str
    file: str | None = None


def blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        if _LEFT_OUT.search(text, 0, found.start()):
            continue
        indent = found["indent"]
        code = "".join(line.removeprefix(indent) for line in found["code"].splitlines(True))
        line = text.count("\n", 0, found.start("code"))
        yield Block(found["language"], line, code, found["file"])


def code_of(page: Path) -> list[CodeType]:
    return [
        # The lines above a block are made up for, so that tracebacks count from the page's top.
        compile(
            "\n" * block.line + (_writing(block) if block.file else block.code),
            str(page),
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,  # what this file says of annotations is not said by the page
        )
        for block in blocks(page.read_text())
        if block.language == "python"
    ]


def _writing(block: Block) -> str:
    """What puts the block into its file, once those before it have run."""
    path = f"__import__('pathlib').Path({block.file!r})"
    return f"{path}.parent.mkdir(parents=True, exist_ok=True); {path}.write_text({block.code!r})"


async def run(codes: list[CodeType]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in codes:
        outcome = eval(code, names)
        if code.co_flags & CO_COROUTINE:
            await outcome


def main(pages: list[str]) -> None:
    for page in pages:
        codes = code_of(Path(page))
        asyncio.run(run(codes))
        print(f"{page}: {len(codes)} Python block(s) ran")


if __name__ == "__main__":
    main(sys.argv[1:])
