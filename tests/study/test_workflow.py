"""The Snakemake workflow: a dry run finds the runs that are to be done. Skipped where Snakemake is not installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from grid_samples import write_grid, write_notebook

from study import paths

WORKFLOW = paths.ROOT / "workflow"
RUNS = ("preset=smoke@n=1", "preset=smoke@n=2@names=b+c")


def dry_run(root: Path, *arguments: str) -> str:
    """What Snakemake says in a repository of the test's own."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "--snakefile", WORKFLOW / "Snakefile"]
    found = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))  # `make workflow` names one
    environment = {**os.environ, "STEMLIB_ROOT": str(root), "PYTHONPATH": found}
    ended = subprocess.run(
        [*command, *arguments], cwd=root, env=environment, text=True, capture_output=True, check=False
    )
    return ended.stdout + ended.stderr


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="Snakemake is missing: make workflow")
def test_a_dry_run_asks_for_every_run_that_is_not_done(tmp_path: Path) -> None:
    write_notebook(tmp_path / "notebooks" / "06_tiny.ipynb")
    entry = {"notebook": "06_tiny", "parameters": {"n": 2, "names": "b c"}}
    write_grid(tmp_path, 1, entry)
    said = dry_run(tmp_path, "--config", "grid=grid.yaml")
    assert sorted(set(re.findall(r"wildcards: notebook=06_tiny, name=(\S+)", said))) == sorted(RUNS), said

    for name in ("metrics.json", "DONE"):
        file = tmp_path / "runs" / "06_tiny" / RUNS[1] / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    said = dry_run(tmp_path, "--config", "grid=grid.yaml")
    assert set(re.findall(r"wildcards: notebook=06_tiny, name=(\S+)", said)) == {RUNS[0]}, said

    write_grid(tmp_path, {"notebook": "06_tiny", "parameters": {"m": 1}})
    assert "06_tiny has no parameter m" in dry_run(tmp_path, "--config", "grid=grid.yaml")


def test_the_profile_names_the_workflow_s_own_rule() -> None:
    profile = yaml.safe_load((WORKFLOW / "profiles" / "slurm" / "config.yaml").read_text())
    rules = set(re.findall(r"^rule (\w+):", (WORKFLOW / "Snakefile").read_text(), re.MULTILINE))
    assert profile["set-resources"].keys() | profile["set-threads"].keys() <= rules
