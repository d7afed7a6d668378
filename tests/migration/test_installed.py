"""The wheel brings the migrations, and they run from where it is unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path

import pytest

import jts_storage
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.migrate import files

ROOT = Path(jts_storage.__file__).parents[1]


@pytest.mark.slow  # that the wheel carries them, the tests of packaging see
def test_a_wheel_leads_all_stores_to_its_models(tmp_path: Path, mongod: LocalMongod) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("JTS_")}
    environment = bare | {
        "PYTHONPATH": str(installed),
        "JTS_DATA_DIR": str(tmp_path / "data"),
        "JTS_MONGO_URL": mongod.uri,
        "JTS_MONGO_DATABASE": f"migrated_{uuid.uuid4().hex[:10]}",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done
        return done.stdout

    where = run("-c", "from jts_storage.migrate.files import root; print(root())")
    assert where.strip() == str(installed / "jts_storage" / "migrations")
    command = ("-m", "jts_storage.cli.main")
    steps = json.loads(run(*command, "migrate", "up", "--json"))["steps"]
    assert [(step["store"], step["revision"]) for step in steps] == [
        (store, file.revision) for store in files.STORES for file in files.discover(store)
    ]
    assert json.loads(run(*command, "check", "--json")) == {"agrees": True, "differences": []}
