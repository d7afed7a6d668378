"""The built site shows every public name, and its search works when it is opened from disk."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Those that are imported from; others are the inside of the kit.
PUBLIC = (
    "jts_storage",
    "jts_storage.domain.events",
    "jts_storage.errors",
    "jts_storage.lake",
    "jts_storage.migrate",
    "jts_storage.migrate.tables",
    "jts_storage.models",
    "jts_storage.mongo",
    "jts_storage.ports",
    "jts_storage.relational",
    "jts_storage.settings",
    "jts_storage.sync",
    "jts_storage.sync.backup",
    "jts_storage.sync.repositories",
    "jts_storage.sync.usecases",
    "jts_storage.testing.assertions",
    "jts_storage.testing.contracts",
    "jts_storage.testing.factories",
    "jts_storage.usecases.import_candles",
)
# Another name of something that is shown, or an object that belongs to its package.
OTHERWISE = {
    "jts_storage.__version__",
    "jts_storage.migrate.tables",  # a module, shown as such
    "jts_storage.clickhouse.tables",
    "jts_storage.migrate",
    "jts_storage.relational.SymbolBarsRepository",
    "jts_storage.relational.OHLCVRepository",
    "jts_storage.relational.CheckpointRepository",
}


# As `python -m mkdocs`, but signatures stay in one line each: a process of ruff wraps each of them,
# which takes a fifth of the processor's time, and no test looks at where their lines end.
BUILD = """
import runpy, sys
sys.modules["ruff"] = None
runpy.run_module("mkdocs", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.fail("mkdocs is missing: install the dependency group `docs`", pytrace=False)
    folder = tmp_path_factory.mktemp("built") / "site"
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def shown(site: Path) -> frozenset[str]:
    """Every name that some page shows, by each path that leads to it."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return frozenset(line.split(" ", 1)[0] for line in lines if " py:" in line)


def names_of(module: ModuleType) -> Iterator[str]:
    """What a module exports, or else what it defines itself."""
    exported = getattr(module, "__all__", None)
    if exported is None:
        source = ast.parse(Path(str(module.__file__)).read_text())
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        exported = [
            node.name
            for node in source.body
            if isinstance(node, kinds) and not node.name.startswith("_")
        ]
    yield from (f"{module.__name__}.{name}" for name in exported)


def imported_by(page: Path) -> Iterator[str]:
    """What the code of a page imports from the package."""
    for code in re.findall(
        r"^ *```py(?:thon)?\b[^\n]*\n(.*?)^ *```$", page.read_text(), re.M | re.S
    ):
        for module, several, one in re.findall(
            r"^\s*from (jts_storage[\w.]*) import (?:\(([^)]*)\)|([^\n#]*))", code, re.M
        ):
            names = re.findall(r"(\w+)(?: as \w+)?\s*(?:,|$)", several or one)
            yield from (f"{module}.{name}" for name in names)


def missing(names: Iterable[str], shown: frozenset[str]) -> list[str]:
    return sorted(set(names) - shown - OTHERWISE)


def test_every_public_name_is_on_a_page(shown: frozenset[str]) -> None:
    names = [name for module in PUBLIC for name in names_of(import_module(module))]
    assert len(names) > 150
    assert missing(names, shown) == []


def test_what_pages_import_is_in_the_reference(shown: frozenset[str]) -> None:
    names = [name for page in DOCS.rglob("*.md") for name in imported_by(page)]
    assert "jts_storage.usecases.quality.QualityPolicy" in names
    assert missing(names, shown) == []


def test_a_name_that_no_page_shows_is_noticed(shown: frozenset[str]) -> None:
    assert missing(["jts_storage.Storage", "jts_storage.Hidden"], shown) == ["jts_storage.Hidden"]


def test_no_page_shows_type_variables(shown: frozenset[str]) -> None:
    assert [name for name in shown if re.search(r"\.[A-Z]$", name)] == []


def scripts_from_elsewhere(site: Path) -> set[str]:
    """Foreign addresses that a page loads, or asks the theme to load."""
    loads = r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
    found: set[str] = set()
    for page in site.rglob("*.html"):
        text = page.read_text()
        tags = re.findall(loads, text)
        canonical = re.findall(r'<link rel="canonical" href="([^"]+)"', text)
        found |= {f"{page.name}: {address}" for address in {*tags} - {*canonical}}
        # The theme fetches mermaid from unpkg.com wherever it finds such an element.
        if re.search(r'class="[^"]*\bmermaid\b', text):
            found.add(f"{page.name}: mermaid")
    return found


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    assert scripts_from_elsewhere(site) == set()


def test_a_script_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<script async src="https://unpkg.com/x.js"></script>')
    (tmp_path / "b.html").write_text('<pre class="mermaid"><code>graph TD</code></pre>')
    assert scripts_from_elsewhere(tmp_path) == {"a.html: https://unpkg.com/x.js", "b.html: mermaid"}


def test_the_navigation_lists_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert [
        page for page in pages if not re.search(rf"- {re.escape(page)}$", navigation, re.M)
    ] == []


@pytest.mark.parametrize("folder", ["how-to", "reference", "decisions"])
def test_an_index_lists_its_folder(folder: str) -> None:
    index = (DOCS / folder / "index.md").read_text()
    pages = [page.name for page in (DOCS / folder).glob("*.md") if page.name != "index.md"]
    assert [page for page in pages if f"({page})" not in index] == []


def test_the_search_needs_no_server(site: Path) -> None:
    text = (site / "search" / "search_index.js").read_text()
    index = json.loads(text.removeprefix("var __index = "))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"tutorial.html", "reference/storage.html", "how-to/scan-a-market.html"} <= found


def test_no_page_takes_a_script_from_elsewhere(site: Path) -> None:
    taken = {
        link
        for page in site.rglob("*.html")
        for link in re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', page.read_text())
    }
    assert any("iframe-worker.js" in link for link in taken)
    assert [link for link in taken if link.startswith(("http:", "https:", "//"))] == []


def test_a_browser_finds_words_in_the_site_on_disk(site: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("neither chromium nor google-chrome is on PATH: the search is not tried in one")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--virtual-time-budget=20000", "--dump-dom", f"--user-data-dir={tmp_path}"),
            f"{(site / 'index.html').as_uri()}?q=tombstone",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert re.search(r'search-result__meta">\d+ matching', done.stdout), done.stderr[-2_000:]
