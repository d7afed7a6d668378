"""Draw the map in `docs/architecture.md` from the imports of the package; ``--check`` compares.

Everything may know the domain, the ports, the errors and `_runtime`, so these arrows are left out,
as are those that follow from others.
"""

from __future__ import annotations

import sys
from pathlib import Path

from measure_code import arrows, sources

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by scripts/draw_map.py -->\n", "<!-- end of the drawing -->\n"
CORE = {"domain", "ports", "errors", "_runtime", "_version"}
OUTSIDE = {"testing", "__init__"}


def drawing() -> str:
    direct = {
        (above, below)
        for above, below in arrows(sources(ROOT / "jts_storage", left_out=()))
        if not {above, below} & (CORE | OUTSIDE)
    }
    lines = [f"    {above} --> {below}" for above, below in sorted(_reduced(direct))]
    return "\n".join([BEGIN.strip(), "```mermaid", "graph TD", *lines, "```", END.strip(), ""])


def _reduced(direct: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that do not follow from two others or more."""
    parts = {part for arrow in direct for part in arrow}
    reached = {part: _below(part, direct) for part in parts}
    return {
        (above, below)
        for above, below in direct
        if not any(
            below in reached[between]
            for one, between in direct
            if one == above and between != below
        )
    }


def _below(part: str, direct: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    waiting = [part]
    while waiting:
        at = waiting.pop()
        new = {below for above, below in direct if above == at} - found
        found |= new
        waiting += new
    if part in found:
        raise SystemExit(f"{part} imports itself by way of others.")
    return found


def main() -> int:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    drawn = before + drawing() + after
    if "--check" in sys.argv:
        if drawn != text:
            sys.stderr.write("The map is not what the imports say: run scripts/draw_map.py.\n")
        return int(drawn != text)
    PAGE.write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
