"""`multicl info`: installed versions, devices and adapters."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from multicl.adapters import entry_point_names

PACKAGES = ("torch", "torchvision", "torchaudio", "transformers", "datasets", "accelerate", "tyro", "soundfile")
EXTRAS = ("timm", "peft", "lancedb", "plotly", "onnxruntime")


def print_info() -> None:
    """Print versions, devices and adapters, one per line."""
    import torch

    from multicl import __version__

    print(f"multicl {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in (*PACKAGES, *EXTRAS):
        try:
            print(f"  {name:<14}{version(name)}")
        except PackageNotFoundError:
            print(f"  {name:<14}not installed{' (an extra)' if name in EXTRAS else ''}")
    print(f"CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads in use")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(i)
            print(f"GPU {i}: {card.name}, {card.total_memory / 2**30:.0f} GiB, compute {card.major}.{card.minor}")
    elif torch.version.cuda:
        print(f"GPU: none found, though this torch is built for CUDA {torch.version.cuda}: training runs on the CPU")
    elif torch.backends.mps.is_available():
        from multicl.running.accelerator import NO_FLOAT64

        print(f"GPU: Apple Metal (mps), which is left alone: {NO_FLOAT64}")
    else:
        print("GPU: none, and this torch is built for the CPU alone")
    for name, point in entry_point_names().items():
        brought = f"{point.dist.name} {point.dist.version}" if point.dist else "?"
        print(f"adapter {name:<8}{point.value} ({brought})")
