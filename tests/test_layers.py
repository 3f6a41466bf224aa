"""The walls of the house: who may import whom (contracts in pyproject.toml), and what must stay light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("multicl", "modalities", "recipes")
LIGHT = [
    "multicl", "multicl.types", "multicl.cli", "multicl.pairs", "multicl.objectives",
    "multicl.modalities.image", "multicl.modalities.text", "multicl.modalities.audio",
]  # fmt: skip


def sources() -> list[Path]:
    """Every source file once: the links that `make links` lays inside multicl/ are left out."""
    links = {ROOT / "multicl" / part for part in FOLDERS}
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if not links & set(path.parents))


def imported(path: Path) -> set[str]:
    """Dotted names a file imports anywhere, `from a import b` as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_import_contracts_hold(tmp_path: Path) -> None:
    house = tmp_path / "multicl"  # the packages as they are installed: adapters and recipes under multicl
    house.mkdir()
    for part in [*(ROOT / "multicl").iterdir(), ROOT / "modalities", ROOT / "recipes"]:
        if not part.is_symlink():
            (house / part.name).symlink_to(part)
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename=sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "pyproject.toml")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_one_file_knows_torch_distributed() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(name.startswith("torch.distributed") for name in imported(path))
    }
    assert users == {"multicl/distributed.py"}


@pytest.mark.parametrize("module", LIGHT)
def test_settings_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "False", f"{module} imports torch, or not at all: {run.stderr}"


def test_the_compiler_is_imported_by_those_who_compile() -> None:
    """Every process of a loader would wait for it a second more."""
    code = (
        "import sys, torch; from multicl import Trainer; from multicl.functional import nt_xent; "
        "z = torch.eye(4); nt_xent(z, z, 0.1); print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "False", run.stderr
