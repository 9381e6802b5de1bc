"""The library as a wheel: complete without the repository, and it writes into the user's cache alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from study.paths import ROOT

USE = """
from pathlib import Path
import torch
import stemlib
from stemlib.data.built_in import mixed_graph
from stemlib.data.features import unit_features
from stemlib.data.public import DATA_SETS
from stemlib.model.stem import StemGNN
from stemlib.presets import ModelConfig, TrainConfig, preset
from stemlib.stress.conditions import corrupt, shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.theory.coverage import coverages
from stemlib.theory.coverage_report import report
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.finetune import fit
from stemlib.training.pool import Member, Pool
from stemlib.training.pretrain import pretrain

assert len(DATA_SETS) > 30
task = unit_features(mixed_graph(200), 8)
pool, config = Pool([Member(task, 1.0)]), ModelConfig(hidden=8, heads=2, codes=6)
print(Path(stemlib.__file__).parent, pretrain(pool, config, preset("smoke").pretrain(steps=2)), sep="\\n")
task, split, conditions = shift_protocol(task, tail_buckets(instance_covariate(task, "degree")), 0)
model = StemGNN(config, 8, task.outputs)
fit(model, task, split, TrainConfig(epochs=2), 0)
assert len(report(coverages(model, conditions))) == 6
assert sensitivity(model, conditions[0], corrupt(conditions[0], "masked", 0.4, 0)[0]).summary()["factor"] > 0
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, made of a copy of what it is made of: building leaves traces."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE", "stemlib", "study"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", source, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def test_the_wheel_holds_the_library_and_its_tables_alone(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"stemlib"}
    assert {path.name for path in (installed / "stemlib/data").iterdir()} >= {"SHA256SUMS", "catalogue.yaml"}


def test_it_trains_pretrains_and_reports_from_any_folder_into_the_cache(installed: Path, tmp_path: Path) -> None:
    before = set(installed.rglob("*"))
    here, cache = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    named = {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path)}
    environment = {**os.environ, **named, "PYTHONDONTWRITEBYTECODE": "1", "STEMLIB_PROGRESS": "off"}
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=here, env=environment, check=True, capture_output=True, text=True
    )
    package, folder = map(Path, used.stdout.split())
    assert package == installed / "stemlib"
    assert folder.is_relative_to(tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert set(installed.rglob("*")) == before
    assert not list(here.iterdir())
