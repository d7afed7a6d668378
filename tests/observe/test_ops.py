"""Rules, dashboards and pages agree with the metrics that there are, and with promtool."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jts_storage import PerSecond, RateLimits, Storage
from jts_storage.observe import Metrics
from jts_storage.observe.alerts import ALERTS
from jts_storage.observe.catalogue import CATALOGUE, PREFIX
from tests.observe.prometheus import OPS, queries

ROOT = Path(__file__).parent.parent.parent
NAMES = {each.exposed for each in CATALOGUE} | {
    f"{each.exposed}_{part}"
    for each in CATALOGUE
    if each.kind == "histogram"
    for part in ("bucket", "count", "sum")
}


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


@pytest.mark.parametrize("what", ["alert_rules", "dashboards", "metrics_reference"])
def test_generated_files_are_up_to_date(what: str) -> None:
    script = ROOT / "scripts" / f"generate_{what}.py"
    run = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stderr} Run python scripts/{script.name}"


def test_promtool_accepts_the_rules_and_their_cases() -> None:
    promtool = program("promtool", "prometheus")
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        folder = OPS / "prometheus"
        run = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


async def test_promtool_accepts_what_is_exposed() -> None:
    promtool = program("promtool", "prometheus")
    limits = RateLimits(kis=[PerSecond(15)])
    async with (
        Storage.in_memory(observer=Metrics(), rate_limits=limits) as storage,
        storage.rate_limits.acquire("kis"),
    ):
        text = await storage.metrics()
    assert 'jts_storage_rate_limit_used_ratio{limit="15 a second",name="kis"} 0.0666' in text
    run = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_alertmanager_accepts_its_configuration() -> None:
    amtool = program("amtool", "prometheus-alertmanager")
    file = OPS / "alertmanager" / "alertmanager.yml"
    run = subprocess.run([amtool, "check-config", str(file)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_case_and_a_section_of_the_runbook() -> None:
    cases = (OPS / "prometheus" / "rules_test.yml").read_text()
    page = (ROOT / "docs" / "how-to" / "on-call.md").read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.removeprefix("## ").lower()).replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("## ")
    }
    for alert in ALERTS:
        assert f"alertname: {alert.name}\n" in cases
        assert alert.section in headings, alert.name
    assert headings - {alert.section for alert in ALERTS} == {"metrics-are-missing"}


@pytest.mark.parametrize("name", sorted(queries()))
def test_dashboards_ask_for_metrics_that_there_are(name: str) -> None:
    assert queries()[name]
    for expression in queries()[name]:
        for metric in re.findall(rf"{PREFIX}\w+", expression):
            assert metric in NAMES, expression


def test_no_label_has_a_value_for_each_symbol() -> None:
    labels = {label for each in CATALOGUE for label in each.labels}
    bounded = {"store", "repository", "operation", "error", "direction", "way", "outcome", "step"}
    of_state = {"table", "exchange", "timeframe", "reason", "name", "limit"}
    assert labels == bounded | of_state | {"source"}
