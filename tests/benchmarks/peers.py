"""Other stores at the same work: `python tests/benchmarks/peers.py [folder for the venvs]`.

Each peer gets a venv of its own and a process of its own, and ours alternates with it: round by
round, one measures after the other on the same machine. Work, in milliseconds: W1 100,000 candles
written, W3 written again, R1 1,000,000 read as columns, R1b read again, R2 one day of 10,000,000,
R3 the latest, R4 first, last and count, R5 a million 1m candles to hours; U1 to U5 are of a whole
market, see `peer_market.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

from harness import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = {
    "arcticdb": "arcticdb",
    "duckdb": "duckdb pyarrow pandas",
    "parquet": "pyarrow pandas",
    "nautilus": "nautilus_trader",
}
OF_MARKETS = ("arcticdb", "duckdb")
ROUNDS = 3
_INSTALL_SECONDS = 300
_ROUND_SECONDS = 900


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder)
        for peer, packages in PEERS.items():
            python = _installed(home / peer, packages)
            if python is None:
                continue
            for script in ("peer_work.py", *(["peer_market.py"] if peer in OF_MARKETS else [])):
                _compare(peer, python, script, Path(folder))


def _compare(peer: str, python: Path, script: str, folder: Path) -> None:
    figures: dict[str, list[dict[str, float]]] = {peer: [], "ours": []}
    for round_number in range(ROUNDS):
        for who, interpreter in ((peer, python), ("ours", Path(sys.executable))):
            place = folder / f"{peer}-{who}-{round_number}"
            found = _measured(interpreter, script, who, place)
            if found is not None:
                figures[who].append(found)
            shutil.rmtree(place, ignore_errors=True)
    for who, rounds in figures.items():
        if rounds:
            medians = {name: median(r[name] for r in rounds) for name in rounds[0]}
            report(f"peer {who} (beside {peer})", **medians)


def _installed(folder: Path, packages: str) -> Path | None:
    """The interpreter of a venv with the packages, or None, said aloud."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*command, "numpy", *packages.split()],
                timeout=_INSTALL_SECONDS,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(json.dumps({"skipped": packages, "why": "took too long to install"}))
            return None
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1]
            print(json.dumps({"skipped": packages, "why": why}), flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            return None
    return python


def _measured(python: Path, script: str, who: str, place: Path) -> dict[str, float] | None:
    place.mkdir()
    try:
        done = subprocess.run(
            [str(python), str(HERE / script), who, str(place)],
            env={"PYTHONPATH": str(ROOT) if who == "ours" else ""},
            timeout=_ROUND_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(json.dumps({"skipped": who, "why": "took too long"}), flush=True)
        return None
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word"])[-1]
        print(json.dumps({"skipped": who, "why": why}), flush=True)
        return None
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
