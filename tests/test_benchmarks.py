"""The benchmarks' own parts: what they count, and that the one for GPUs runs where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
MISSING = ["rdkit", "matplotlib", "seaborn", "IPython", "papermill", "snakemake", "pyarrow", "nbformat"]


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measuring

    return measuring


def test_traffic_is_what_operations_read_and_write(measuring: object) -> None:
    a, b = torch.ones(1000, 250), torch.ones(1000, 250)  # a megabyte each
    assert measuring.traffic(lambda: a + b) == pytest.approx(3e-3)
    assert measuring.traffic(lambda: a.T[3:].T) == 0
    assert measuring.traffic(lambda: a.add_(b)) == pytest.approx(3e-3)


def test_operations_are_those_of_dense_products(measuring: object) -> None:
    a, edges = torch.ones(100, 50), torch.eye(100).to_sparse_csr()
    assert measuring.flops(lambda: a.T @ a) == pytest.approx(2 * 50 * 100 * 50 / 1e9)
    assert measuring.flops(lambda: edges @ a) == 0


def test_the_peaks_are_those_of_the_device(measuring: object) -> None:
    assert measuring.matrix_peak(64, 2) > 0
    assert measuring.bandwidth(1, 2) > 0


def test_shares_are_of_the_whole_step(measuring: object) -> None:
    import shares

    a, bound = torch.ones(1500, 1500), torch.ones(10)
    found = shares.profiled(lambda: (a @ a, bound + 1))
    assert sum(found[kind] for kind in (*shares.KINDS, "other", "between")) == pytest.approx(1)
    assert found["products"] > 0.5
    assert found["optimiser"] == found["means"] == 0
    assert found["operations"] >= 2


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_where_there_is_none(tmp_path: Path) -> None:
    # What a machine with PyTorch and PyG need not have is not there.
    code = (
        f"import runpy, sys; sys.modules |= dict.fromkeys({MISSING}); sys.path.insert(0, 'benchmarks')\n"
        "sys.argv = ['gpu.py', '--tiny', '--device', 'cpu']; runpy.run_path('benchmarks/gpu.py', run_name='__main__')"
    )
    environment = os.environ | {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # compiling takes a minute
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for form in ("parity", "reference", "eager", "compile", "graph", "bf16"):
        assert f"'form': '{form}'" in done.stdout
    assert "'same_bits': True" in done.stdout
    assert done.stdout.count("'error'") == 2  # CUDA graphs, of two sizes
    assert not (BENCHMARKS / "gpu.csv").exists() or "CPU" not in (BENCHMARKS / "gpu.csv").read_text()
