"""What ships: every package, every declared dependency, pins that fit the ranges, and the demo's data."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import multicl

ROOT = Path(__file__).parents[1]
DATA = ROOT / "recipes" / "data"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return pq.read_table(DATA / "spoken_codes.parquet").to_pylist()


def folders(pyproject: dict[str, Any]) -> dict[str, Path]:
    """Package -> its folder; longer names first, so that multicl.modalities is not looked for inside multicl."""
    homes = sorted(pyproject["tool"]["setuptools"]["package-dir"].items(), reverse=True)
    found: dict[str, Path] = {}
    for name in pyproject["tool"]["setuptools"]["packages"]:
        package, folder = next(home for home in homes if name == home[0] or name.startswith(home[0] + "."))
        found[name] = ROOT.joinpath(folder, *name.removeprefix(package).split("."))
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if line[:1] not in ("", "#")}


def test_every_package_is_listed(pyproject: dict[str, Any]) -> None:
    homes = [ROOT / folder for folder in ("multicl", "modalities", "recipes")]
    links = {ROOT / "multicl" / "modalities", ROOT / "multicl" / "recipes"}
    there = {init.parent for home in homes for init in home.rglob("__init__.py")}
    assert set(folders(pyproject).values()) == {folder for folder in there if not links & {folder, *folder.parents}}


def test_every_import_is_declared(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != "dev"}
    declared = {canonicalize_name(Requirement(need).name) for need in sum(extras.values(), project["dependencies"])}
    homes = packages_distributions()
    undeclared: set[str] = set()
    for path in (path for folder in folders(pyproject).values() for path in folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"multicl"}:
                if not declared & {canonicalize_name(home) for home in homes.get(top, [top])}:
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert not undeclared


def test_pins_fit_the_ranges(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    pinned = pins()
    for need in map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"]):
        if need.name != project["name"]:
            assert need.specifier.contains(pinned[canonicalize_name(need.name)]), f"constraints.txt breaks {need}"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(("goal", "extras"), [("demo", ""), ("test", "[dev]"), ("bench", "[dev,bench]")])
def test_make_installs_what_a_goal_runs_with(goal: str, extras: str, tmp_path: Path) -> None:
    told = subprocess.run(
        ["make", "-n", goal, f"VENV={tmp_path}/v"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    installs = [line for line in told.stdout.splitlines() if "-c constraints.txt" in line]
    assert installs[-1].replace("'", "").endswith(f" -e .{extras}")


def test_one_version_and_one_ruff(pyproject: dict[str, Any]) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [hook["rev"] for hook in hooks if "ruff" in hook["repo"]] == ["v" + pins()["ruff"]]
    assert multicl.__version__ == pyproject["project"]["version"]


def test_tab_completion_and_dir_know_every_public_name() -> None:
    assert set(multicl.__all__) <= set(dir(multicl))
    assert all(getattr(multicl, name).__name__ == name for name in multicl.__all__)


def test_licences_ship_and_name_the_data(pyproject: dict[str, Any]) -> None:
    expression = set(pyproject["project"]["license"].split(" AND "))
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in pyproject["project"]["license-files"])
    assert expression == {"Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0"}
    assert all(name in text for name in ("Apache License", "CC-BY-4.0", "CC-BY-SA-4.0", "Alpaydin", "Zohar Jackson"))


def test_data_is_small_and_whole(rows: list[dict[str, Any]]) -> None:
    assert (DATA / "spoken_codes.parquet").stat().st_size <= 6_000_000
    count = {
        (kind, split): sum(row["kind"] == kind and row["split"] == split for row in rows)
        for kind in ("scan", "recording")
        for split in ("train", "test")
    }
    assert count == {
        ("scan", "train"): 1415,
        ("scan", "test"): 382,
        ("recording", "train"): 2700,
        ("recording", "test"): 300,
    }
    for kind, split in count:
        of_kind = [row for row in rows if row["kind"] == kind and row["split"] == split]
        assert {row["label"] for row in of_kind} == set(range(10))
    assert len({row["speaker"] for row in rows if row["kind"] == "recording"}) == 6


def test_data_decodes(rows: list[dict[str, Any]]) -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits().images
    scans = [row for row in rows if row["kind"] == "scan"]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in scans])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(np.rint(pixels / 255 * 16), digits)
    for row in rows[len(scans) :: 50]:
        sound, rate = soundfile.read(io.BytesIO(row["audio"]))
        assert rate == 8000
        assert sound.ndim == 1
        assert 0.1 < len(sound) / rate < 2.5
        assert np.abs(sound).max() > 0.01
