"""mypy and pyright type repositories of declared models as what the models declare."""

from __future__ import annotations

from pathlib import Path

from tests.type_checkers import ROOT, mypy, pyright

PROOF = Path(__file__).with_name("declared_models.py")
DECLARATIONS = ROOT / "tests" / "declared.py"


def spoiled(folder: Path) -> Path:
    """The proof with one claim that is wrong."""
    text = PROOF.read_text()
    right = "assert_type(storage.repository(ticks), Ticks)"
    assert right in text
    found = folder / "spoiled.py"
    found.write_text(text.replace(right, "assert_type(storage.repository(ticks), Orders)"))
    return found


def test_mypy_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    done = mypy(PROOF)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = mypy(spoiled(tmp_path))
    assert 'Expression is of type "Ticks", not "Orders"' in wrong.stdout, wrong.stdout


def test_pyright_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    done = pyright(tmp_path, PROOF, DECLARATIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = pyright(tmp_path, spoiled(tmp_path))
    assert 'expected "Orders" but received "Ticks"' in wrong.stdout, wrong.stdout
