"""Sets up the Accelerator that a run trains under, and refuses what the trainer does not support."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    parse_flag_from_env,
)

from multicl.distributed import WAIT, part
from multicl.running.trackers import check_trackers
from multicl.settings import Train
from multicl.types import InputError

NO_FLOAT64 = "Apple's GPUs lack float64, which drawing views and exact sums need"


def accelerator_of(train: Train, run: Path | None) -> Accelerator:
    """The Accelerator for the launcher's processes and devices.

    Args:
        run: folder where trackers write; None: nowhere.

    Raises:
        InputError: the launcher asks for sharded towers, or a tracker is not available.
    """
    # Accelerate keeps a process's first precision; a second Trainer, as in a notebook, may use another.
    AcceleratorState._reset_state()
    _refuse_sharding()
    meet()
    check_trackers(train.trackers, run)
    accelerator = Accelerator(
        mixed_precision=train.mixed_precision,
        log_with=list(train.trackers) or None,
        project_dir=str(run) if run else None,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # a launcher's would divide the loss
    )
    if accelerator.device.type == "cpu" and torch.backends.mps.is_available():
        accelerator.print(f"training on the CPU: {NO_FLOAT64}")
    return accelerator


def meet() -> None:
    """Initialise the process group of the launcher's processes, unless that is done; call it before using the group.

    By default, Accelerate does not run several processes on CPUs: under torchrun without a GPU, each process would
    think it is alone and train the whole run into the same folder. It would also choose an Apple GPU.
    """
    if PartialState._shared_state:
        return
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or torch.backends.mps.is_available()
    state = PartialState(cpu=cpu, timeout=WAIT)
    if state.num_processes == 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState._reset_state()
        PartialState(cpu=True, timeout=WAIT)
    if not torch.cuda.is_available():
        atexit.register(part)  # not under NCCL, which might wait for a failed process: there `launch` calls it


def _refuse_sharding() -> None:
    """Refuse launchers that shard the towers: the surrogate loss needs DDP's single reduction."""
    for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise InputError(
                f"the launcher asks for {name}; multicl trains on one process or with plain data parallelism (DDP): "
                "choose multi-GPU or multi-CPU without it in `accelerate config`"
            )
