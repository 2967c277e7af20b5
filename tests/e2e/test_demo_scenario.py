"""The whole way with real processes, as `facefare demo --once` plays it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.timeout(700)
def test_the_scenario_comes_out_right_and_leaves_nothing_behind(tmp_path):
    report = tmp_path / "report.json"
    before = {process.pid for process in psutil.process_iter()}
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # PostgreSQL runs as another user, who has to be able to reach its folder
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-m", "facefare", "demo", "--once", "--json", str(report)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=680,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    steps = json.loads(report.read_text())
    assert len(steps) >= 24
    assert all(step["ok"] for step in steps)
    assert not list(tmp_path.glob("facefare-demo-*"))
    left = [p for p in psutil.process_iter(["cmdline", "environ"]) if p.pid not in before and _is_of(p, tmp_path)]
    assert not left


def _is_of(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in argument for argument in process.info["cmdline"] or ())
