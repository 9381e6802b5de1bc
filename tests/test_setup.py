"""The set-up files agree: pyproject.toml, requirements.lock, environment.yml, Makefile, README.md, CI."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from study.paths import ROOT

PLATFORMS = {"linux": ("posix", "linux", "Linux"), "macos": ("posix", "darwin", "Darwin")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [
    *PROJECT["build-system"]["requires"],  # the package is built in the environment itself
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["study"],
    *PROJECT["project"]["optional-dependencies"]["test"],
]


def pins(python: str, platform: str) -> dict[str, Requirement]:
    """The lock's requirements that hold for one interpreter on one platform."""
    os_name, sys_platform, platform_system = PLATFORMS[platform]
    environment = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "os_name": os_name,
        "sys_platform": sys_platform,
        "platform_system": platform_system,
    }
    found: dict[str, Requirement] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith("--"):
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice for Python {python} on {platform}"
            found[name] = requirement
    return found


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is no exact pin"
    return specifier.version


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11.0", "3.11.9", "3.12.0", "3.13.0", "3.14.0"])
def test_lock_pins_every_direct_dependency_within_its_range(python: str, platform: str) -> None:
    locked = pins(python, platform)
    for text in DIRECT:
        wanted = Requirement(text)
        pin = locked.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} is not in requirements.lock: run `make lock`"
        assert version(pin) in wanted.specifier, f"the lock has {pin}, pyproject.toml wants {wanted}"
    assert all(version(pin) for pin in locked.values())


def test_lock_brings_no_cuda_packages() -> None:
    locked = pins("3.11.9", "linux")
    assert version(locked["torch"]).endswith("+cpu")
    assert (
        "--extra-index-url https://download.pytorch.org/whl/cpu"
        in (ROOT / "requirements.lock").read_text().splitlines()
    )
    assert not [name for name in locked if re.match(r"nvidia|cuda|cupy|triton|pytorch-triton", name)]


def test_conda_takes_python_from_conda_and_every_version_from_the_lock() -> None:
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(item.split("=")[-1] for item in conda if item.startswith("python="))
    assert sorted(item.split("=")[0] for item in conda) == ["pip", "python"]
    assert f"{python}.9" in SpecifierSet(PROJECT["project"]["requires-python"])
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


def test_makefile_accepts_the_pythons_that_the_project_accepts() -> None:
    bounds = re.search(r"\((3), (\d+)\) <= v\[:2\] < \((3), (\d+)\)", (ROOT / "Makefile").read_text())
    assert bounds, "the Makefile no longer compares Python's version"
    lower, upper = (".".join(bounds.groups()[i : i + 2]) for i in (0, 2))
    assert PROJECT["project"]["requires-python"] == f">={lower},<{upper}"


@pytest.mark.parametrize(
    ("page", "command"), [("README.md", "make study"), ("README.md", "make test"), ("docs/running.md", "make grid")]
)
def test_pages_show_the_commands_that_the_makefile_has(page: str, command: str) -> None:
    assert re.search(rf"^\s*{command}\b", (ROOT / page).read_text(), re.MULTILINE)
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_ci_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, f"{script} is not executable"
    assert "make test" in script.read_text().splitlines()
