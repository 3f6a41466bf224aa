"""What benchmarks share: the data's folder, launching a recipe, describing the machine, printing and saving results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("multicl", "torch", "torchvision", "torchaudio", "transformers", "datasets", "accelerate")


def data_folder() -> Path:
    """The folder that MULTICL_DATA names, with a folder for each data set."""
    folder = os.environ.get("MULTICL_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("set MULTICL_DATA to the folder that holds the data sets (cifar10/, emoji/, ...)")
    return Path(folder)


def launched(recipe: str, flags: Sequence[str], **environment: str) -> dict[str, Any]:
    """Run recipes/RECIPE.py in a process of its own, remove the run's folder, and return its result.

    Args:
        environment: variables that the process gets besides this one's.

    Raises:
        CalledProcessError: the run failed; its messages went to stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "recipes" / f"{recipe}.py"), "--run", f"{folder}/run", *flags]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, **environment})
        result: dict[str, Any] = json.loads((Path(folder) / "run" / "result.json").read_text())
    return result


def machine() -> dict[str, Any]:
    """Processor and its vector instructions (AVX2, AVX512), cores, GPU and versions."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ]
        cpu = names[0] if names else cpu
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cpu = f"{cpu} ({torch.backends.cpu.get_cpu_capability()})"
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": gpu, "python": platform.python_version(), **versions}


def seconds(run: Callable[[], Any], device: torch.device, calls: int) -> float:
    """Median time of `calls` calls after a warm-up, each synchronised with the GPU."""
    import torch

    each = []
    for _ in range(calls + 3):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        each.append(time.perf_counter() - began)
    return median(each[3:])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text, with a column for every key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    wide = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, wide, strict=True)).rstrip() for line in cells)


def finish(name: str, rows: Sequence[dict[str, Any]], folder: Path | None = RESULTS, **more: Any) -> None:
    """Print the table and a last line `RESULT {json}`; write FOLDER/NAME.json, or nothing where folder is None."""
    result = {"benchmark": name, "machine": machine(), "rows": list(rows), **more}
    if folder:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print("RESULT " + json.dumps(result), flush=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
