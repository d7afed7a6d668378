"""Runs pytest on a project of its own, with the plugin, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

INI = """[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
# An installation made before the package had the plugin does not announce it.
PLUGIN = (
    []
    if any(found.name == "jts_storage" for found in entry_points(group="pytest11"))
    else ["-p", "jts_storage.testing.plugin"]
)


@dataclass(frozen=True)
class Outcome:
    """What pytest printed, and how many tests came to what."""

    text: str
    code: int

    def count(self, word: str) -> int:
        last = re.findall(
            r"^.*\b(?:passed|failed|skipped|errors?)\b.* in [\d.]+s.*$", self.text, re.M
        )
        found = re.search(rf"(\d+) {word}", last[-1]) if last else None
        return int(found[1]) if found else 0

    @property
    def counts(self) -> dict[str, int]:
        counts = {word: self.count(word) for word in ("passed", "failed", "skipped", "error")}
        return {word: count for word, count in counts.items() if count}


def run_pytest(
    folder: Path,
    *options: str,
    python: str | Path = sys.executable,
    plugin: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    # Coverage does not follow: the search for leaks would take minutes under it.
    ours = ("JTS_", "PYTEST_", "COV_", "COVERAGE_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(
        [python, "-m", "pytest", *(PLUGIN if plugin else []), "-q", "--tb=short", *options],
        cwd=folder,
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Outcome(done.stdout + done.stderr, done.returncode)
