"""Wherever a process is killed, a document and its revision are both there, or neither."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from jts_storage import StorageSettings

SERVICE = Path(__file__).with_name("revising_service.py")
POINTS = ["revisions written", "documents committed", "entry written", "decided"]


@dataclass
class Trial:
    """Kills the service again and again, and looks at what it left."""

    service: subprocess.Popen[str]
    database: Any
    acknowledged: int = 0
    kills: int = 0

    def killed(self, **asked: Any) -> None:
        assert self.service.stdin is not None
        assert self.service.stdout is not None
        self.service.stdin.write(json.dumps({"name": str(self.kills), **asked}) + "\n")
        self.service.stdin.flush()
        self.acknowledged += json.loads(self.service.stdout.readline())
        self.kills += 1

    def check(self) -> None:
        commits = 0
        for name in ("formulas", "strategies"):
            documents = {each["_id"]: each for each in self.database[name].find()}
            revisions = defaultdict(list)
            order = [("document", 1), ("since", 1), ("n", 1)]
            for each in self.database[f"{name}_history"].find().sort(order):
                revisions[each["document"]].append(each)
            last = {key: kept[-1]["stored"] for key, kept in revisions.items()}
            assert {key: stored for key, stored in last.items() if stored} == documents
            for kept in revisions.values():
                versions = [each["version"] for each in kept if each["stored"] is not None]
                assert versions == list(range(1, len(versions) + 1))
                assert all(each["stored"] is not None for each in kept[:-1])
            shared = [key for key, each in documents.items() if each["name"] == "shared"]
            commits += sum(len(revisions[key]) for key in shared)
        # One document is changed by every commit of a process: it has a version of each.
        assert self.acknowledged <= commits <= self.acknowledged + self.kills
        assert self.acknowledged > 0
        sys.stdout.write(f"kills={self.kills} commits={commits}\n")


@pytest.fixture
def trial(fresh_settings: StorageSettings) -> Iterator[Trial]:
    assert fresh_settings.mongo_url is not None
    uri, name = fresh_settings.mongo_url.get_secret_value(), fresh_settings.mongo_database
    environment = os.environ | {
        "JTS_DATA_DIR": str(fresh_settings.data_dir),
        "JTS_MONGO_URL": uri,
        "JTS_MONGO_DATABASE": name,
        "JTS_MIGRATE": "1",
    }
    with (
        subprocess.Popen(
            [sys.executable, str(SERVICE)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as service,
        MongoClient[dict[str, Any]](uri) as client,
    ):
        yield Trial(service, client[name])
        assert service.stdin is not None
        service.stdin.close()
        service.wait(30)


def test_killed_around_the_commit(trial: Trial) -> None:
    trial.killed(point="revisions written", nth=2)
    trial.killed(point="documents committed", nth=2)
    trial.check()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_point_and_at_random_times(trial: Trial, part: int) -> None:
    moments = random.Random(part)
    for point in POINTS:
        trial.killed(point=point, nth=1 + part % 2)
    for _ in range(25):
        trial.killed(after=moments.uniform(0, 0.15))
    trial.check()
