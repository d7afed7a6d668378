"""The example of docs/how-to/test-your-service.md: what installing the package gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("example_service")
PAGE = ROOT / "docs" / "how-to" / "test-your-service.md"
TESTS = 42
SEEDS = range(10)

_spec = spec_from_file_location("projects", ROOT / "tests/integration/plugin/projects.py")
assert _spec is not None
assert _spec.loader is not None
projects = module_from_spec(_spec)
sys.modules["projects"] = projects
_spec.loader.exec_module(projects)


@pytest.fixture
def service(tmp_path: Path, engine_used: Callable[[str], None]) -> Path:
    engine_used("chDB, mongod, PostgreSQL in processes of example projects")
    folder = tmp_path / "service"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


# By day embedded stores serve those of the API's example, and the plugin's own projects.
@pytest.mark.parametrize("backend", ["memory", pytest.param("embedded", marks=pytest.mark.slow)])
def test_its_tests_pass_in_random_order(service: Path, backend: str) -> None:
    outcome = projects.run_pytest(service, f"--jts-backend={backend}", "--randomly-seed=0")
    assert outcome.counts == {"passed": TESTS}, outcome.text


def test_the_page_shows_the_code_that_runs() -> None:
    sources = [EXAMPLE / "price_service.py", EXAMPLE / "tests" / "test_price_service.py"]
    code = "\n".join(source.read_text() for source in sources)
    shown = [part.partition("```")[0] for part in PAGE.read_text().split("```py\n")[1:]]
    assert shown
    for block in shown:
        assert block.strip() in code, f"{PAGE.name} shows what the example does not hold:\n{block}"


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the built wheel, its [test] extra and what the example asks for."""
    if find_spec("uv") is None:
        pytest.skip("uv, which makes environments quickly, is not installed here")
    folder = tmp_path_factory.mktemp("fresh")
    uv = [sys.executable, "-m", "uv"]
    python = folder / "venv" / "bin" / "python"

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [*uv, *command], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr

    run("build", "--quiet", "--wheel", "--out-dir", folder / "dist", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    run("venv", "--quiet", "--python", sys.executable, folder / "venv")
    wanted = [f"{wheel}[test]", "pytest-xdist", "pytest-randomly"]
    run("pip", "install", "--quiet", "--python", python, "-c", "constraints.txt", *wanted)
    return python


@pytest.mark.slow
def test_embedded_is_the_default(service: Path, fresh_python: Path) -> None:
    options = ("-o", "addopts=", "-v", "-k", "test_embedded_is_what_one_gets")
    (service / "tests" / "test_default.py").write_text(
        "def test_embedded_is_what_one_gets(jts_settings, _jts_backend):\n"
        "    assert _jts_backend == 'embedded'\n"
        "    assert jts_settings.clickhouse().embedded_path\n"
    )
    outcome = projects.run_pytest(service, *options, python=fresh_python, plugin=False)
    assert outcome.count("passed") == 1, outcome.text


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"], ids=["serially", "two workers"])
@pytest.mark.parametrize("backend", ["memory", "embedded", "servers"])
def test_installing_the_wheel_is_enough(
    service: Path, fresh_python: Path, backend: str, workers: str
) -> None:
    outcome = projects.run_pytest(
        service, f"--jts-backend={backend}", "-n", workers, python=fresh_python, plugin=False
    )
    assert outcome.counts == {"passed": TESTS}, outcome.text


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_will_do(service: Path, fresh_python: Path, seed: int) -> None:
    options = ("--jts-backend=embedded", f"--randomly-seed={seed}")
    outcome = projects.run_pytest(service, *options, python=fresh_python, plugin=False)
    assert outcome.counts == {"passed": TESTS}, outcome.text
