"""Before anything is imported: no hub, no GPU but by name, a cache of data sets that goes, one thread, no bars."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_CACHE = tempfile.mkdtemp(prefix="multicl-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    ACCELERATE_USE_CPU="true",  # ranks of a test are more than GPUs of a machine; what is for GPUs asks for them itself
    HF_HUB_OFFLINE="1",
    HF_DATASETS_CACHE=_CACHE,
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

import torch  # noqa: E402

torch.set_num_threads(1)
