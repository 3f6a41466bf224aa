"""Set-up before any import: no hub, no GPU except for `make test-gpu`, a temporary cache of data sets, one thread, no
progress bars."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from multiprocessing import forkserver

_CACHE = tempfile.mkdtemp(prefix="multicl-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_CACHE=_CACHE,
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

if os.environ.get("MULTICL_TEST_GPU") != "1":  # a test has more ranks than a machine has GPUs, and gloo is for CPUs
    os.environ.update(CUDA_VISIBLE_DEVICES="", ACCELERATE_USE_CPU="true")

import pytest  # noqa: E402
import torch  # noqa: E402
from pretended import gpu  # noqa: E402, F401

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    gc.freeze()  # imported modules stay: garbage collection need not scan them again
    if "ranks" in sys.modules:  # before a test of loaders starts a server with fewer imports
        forkserver.ensure_running()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU: make test-gpu"))
