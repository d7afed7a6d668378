"""Draw `docs/map.svg` from the imports of the package; ``--check`` compares.

Everything may know the domain, the ports, the errors and `_runtime`, so these arrows are left out,
as are those that follow from others. It is a picture and no script, so that the built site shows it
without a network.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from measure_code import arrows, sources

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "map.svg"
CORE = {"domain", "ports", "errors", "_runtime", "_version"}
OUTSIDE = {"testing", "__init__"}

Arrow: TypeAlias = tuple[str, str]
Place: TypeAlias = tuple[str, int]
"""A part in its row, or where an arrow passes a row between: ``("a b", 2)``."""

WIDTH, HEIGHT, ROW, COLUMN = 128, 32, 84, 150
SWEEPS = 24
STYLE = """
    text { font: 14px ui-monospace, monospace; text-anchor: middle; dominant-baseline: central; }
    .part { fill: #eef1fb; stroke: #4051b5; } .arrow { fill: none; stroke: #5c6370; }
    text { fill: #1f2430; } marker path { fill: #5c6370; }
    @media (prefers-color-scheme: dark) {
      .part { fill: #262b3f; stroke: #8c9eff; } .arrow { stroke: #a3a9b7; }
      text { fill: #e4e7f0; } marker path { fill: #a3a9b7; }
    }
"""


def drawing() -> str:
    direct = {
        (above, below)
        for above, below in arrows(sources(ROOT / "jts_storage", left_out=()))
        if not {above, below} & (CORE | OUTSIDE)
    }
    drawn = sorted(_reduced(direct))
    depths = _depths(drawn)
    ways = {arrow: _way(arrow, depths) for arrow in drawn}
    columns = _columns(ways.values())
    return _picture(ways, {part: (part, depth) for part, depth in depths.items()}, columns)


def _depths(drawn: list[Arrow]) -> dict[str, int]:
    """The row of each part: below all that import it."""
    depths = dict.fromkeys((part for arrow in drawn for part in arrow), 0)
    for _ in depths:
        for above, below in drawn:
            depths[below] = max(depths[below], depths[above] + 1)
    return depths


def _way(arrow: Arrow, depths: dict[str, int]) -> list[Place]:
    """Where an arrow begins, which places between rows it passes, and where it ends."""
    above, below = arrow
    between = range(depths[above] + 1, depths[below])
    return [
        (above, depths[above]),
        *((" ".join(arrow), row) for row in between),
        (below, depths[below]),
    ]


def _columns(ways: Collection[list[Place]]) -> dict[Place, float]:
    """The column of each place, so that arrows are short and cross little."""
    beside: dict[Place, set[Place]] = defaultdict(set)
    rows: dict[int, set[Place]] = defaultdict(set)
    for way in ways:
        for one, other in pairwise(way):
            beside[one].add(other)
            beside[other].add(one)
        for place in way:
            rows[place[1]].add(place)
    widest = max(map(len, rows.values()))
    columns = {
        place: (number + 0.5) * widest / len(row)
        for row in rows.values()
        for number, place in enumerate(sorted(row))
    }
    for sweep in range(SWEEPS):
        for depth in sorted(rows, reverse=bool(sweep % 2)):
            wanted = {
                place: sum(columns[each] for each in beside[place]) / len(beside[place])
                for place in rows[depth]
            }
            ordered = sorted(rows[depth], key=lambda place: (wanted[place], place))
            _set_apart(ordered, wanted, columns, widest)
    return columns


def _set_apart(
    ordered: list[Place], wanted: dict[Place, float], columns: dict[Place, float], widest: int
) -> None:
    """Give each its wanted column, at least one apart from the next and within the picture."""
    at = -0.5
    for number, place in enumerate(ordered):
        left = len(ordered) - number - 1
        at = min(max(wanted[place], at + 1), widest - 0.5 - left)
        columns[place] = at


def _picture(
    ways: dict[Arrow, list[Place]], parts: dict[str, Place], columns: dict[Place, float]
) -> str:
    width = round(max(columns.values()) * COLUMN + COLUMN / 2)
    height = round((max(row for _, row in columns) + 1) * ROW)
    told = "; ".join(f"{above} imports {below}" for above, below in ways)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"  <title>The parts of jts_storage</title>\n  <desc>{told}.</desc>",
        f"  <style>{STYLE}  </style>",
        '  <defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for way in ways.values():
        middles = [
            (round(columns[place] * COLUMN), row * ROW + ROW // 2)
            for place in way
            for row in [place[1]]
        ]
        (x, y), *others = middles
        path = f"M{x} {y + HEIGHT // 2}"
        y += HEIGHT // 2
        for number, (to_x, middle) in enumerate(others, start=1):
            to_y = middle - HEIGHT // 2 if number == len(others) else middle
            half = (y + to_y) // 2
            path += f"C{x} {half} {to_x} {half} {to_x} {to_y}"
            x, y = to_x, to_y
        lines.append(f'  <path class="arrow" d="{path}" marker-end="url(#end)"/>')
    for part, place in sorted(parts.items()):
        x, y = round(columns[place] * COLUMN), place[1] * ROW + ROW // 2
        lines.append(
            f'  <rect class="part" x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}"'
            f' height="{HEIGHT}" rx="5"/><text x="{x}" y="{y}">{part}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


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
    drawn = drawing()
    if "--check" in sys.argv:
        is_same = PICTURE.exists() and drawn == PICTURE.read_text(encoding="utf-8")
        if not is_same:
            sys.stderr.write("The map is not what the imports say: run scripts/draw_map.py.\n")
        return int(not is_same)
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
